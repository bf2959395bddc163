"""What is made small: contrast between pictures and texts, and losses of labels by name."""

from embedsearch.training.losses.contrastive import grouped_info_nce, soft_info_nce
from embedsearch.training.losses.labels import LOSSES, make_loss, takes_shares

__all__ = ["LOSSES", "grouped_info_nce", "make_loss", "soft_info_nce", "takes_shares"]
