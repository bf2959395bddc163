"""Training detectors: ``finetune --task detect``."""
