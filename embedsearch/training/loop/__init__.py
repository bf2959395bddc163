"""What every training run does, step by step, whatever its loss: rates, checkpoints, figures."""
