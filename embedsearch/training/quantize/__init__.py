"""From a float32 image tower to one of 8-bit integers, as one ONNX file."""
