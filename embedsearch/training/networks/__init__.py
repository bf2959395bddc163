"""Encoders as PyTorch trains them: built from any spec, cut, narrowed, averaged, written."""
