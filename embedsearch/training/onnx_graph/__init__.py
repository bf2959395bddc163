"""ONNX files as graphs that can be asked and rewritten."""
