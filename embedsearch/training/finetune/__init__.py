"""``finetune``: from any encoder and one's own photos to a better encoder for these."""
