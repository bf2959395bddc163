"""Measuring on pictures with ground truth: one module a task."""

from embedsearch.training.evaluate.captions import evaluate_captions
from embedsearch.training.evaluate.category import evaluate_category
from embedsearch.training.evaluate.copies import evaluate_copies
from embedsearch.training.evaluate.detection import evaluate_detection
from embedsearch.training.evaluate.ocr import evaluate_ocr
from embedsearch.training.evaluate.products import evaluate_products
from embedsearch.training.evaluate.segmentation import evaluate_segmentation
from embedsearch.training.evaluate.tracking import evaluate_one_object, evaluate_tracking

__all__ = [
    "evaluate_captions",
    "evaluate_category",
    "evaluate_copies",
    "evaluate_detection",
    "evaluate_ocr",
    "evaluate_one_object",
    "evaluate_products",
    "evaluate_segmentation",
    "evaluate_tracking",
]
