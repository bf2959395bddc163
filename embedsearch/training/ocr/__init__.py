"""``finetune --task ocr``: a small recogniser of words, trained on words that are drawn here."""
