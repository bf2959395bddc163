"""Training in several processes: who is who, what each one has, and what crosses over.

A process that ``torchrun`` started finds its number in the environment; any other is alone, and
everything here then does what it does without others. Each rank takes its share of a batch
(:func:`~embedsearch.training.distributed.collectives.share`), embeds it, and sees the embeddings of
all (:func:`~embedsearch.training.distributed.collectives.gather_with_gradient`), so that a
contrastive loss has the whole batch's negatives. Every rank computes the loss of the whole batch,
and the mean of their gradients is the gradient that one process would have found.
"""
