"""From a float32 image tower to one of 8-bit integers, as one ONNX file."""

from embedsearch.training.quantize.backbone import quantize_backbone
from embedsearch.training.quantize.weights import round_weight, weight_scales

__all__ = ["quantize_backbone", "round_weight", "weight_scales"]
