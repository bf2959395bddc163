"""Looks at photos, drawn ahead and kept, and the batches that are made of them."""
