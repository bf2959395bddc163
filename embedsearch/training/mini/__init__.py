"""The first ``mini``, from ImageNet weights and static token embeddings."""
