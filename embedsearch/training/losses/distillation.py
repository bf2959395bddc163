"""What a student learns from a teacher: losses on rows of both, zero where the two agree.

Rows are unit vectors, float32 (N, dim); where a loss compares relations only, the teacher's may
have another dim. :func:`maps` compares what networks give on the way.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, normalize, smooth_l1_loss

MOST_ANGLES = 64
"""Rows that angles are taken among: the number of angles is their cube."""


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine between what both make of the same thing, the mean."""
    return (1 - (student * teacher).sum(1)).mean()


def maps(student: Tensor, teacher: Tensor) -> Tensor:
    """How far maps of both, (N, C, H, W), are apart: the square of their distance as a share of the
    square of the teacher's length, the mean over photos (Romero et al., "FitNets: Hints for Thin
    Deep Nets", 2015, eq. 3, but for the share)."""
    off = (student.float() - teacher.float()).square().sum((1, 2, 3))
    length = teacher.float().square().sum((1, 2, 3))
    return (off / length.clamp_min(torch.finfo().tiny)).mean()


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the student's shares of the classes are from the teacher's.

    ``student`` and ``teacher`` are logits, float32 (N, classes): here cosines to the embeddings of
    class names. Kullback-Leibler divergence of both softened by ``temperature``, times its square,
    so that gradients do not depend on it (Hinton et al., "Distilling the Knowledge in a Neural
    Network", 2015, section 2).
    """
    return temperature**2 * _divergence(student / temperature, teacher / temperature)


def distances(student: Tensor, teacher: Tensor) -> Tensor:
    """Whether the same pairs are near, whatever the scale: Huber loss on Euclidean distances, each
    side's divided by their mean (Park et al., "Relational Knowledge Distillation", 2019, eq. 4
    to 6)."""
    return smooth_l1_loss(_scaled_distances(student), _scaled_distances(teacher))


def angles(student: Tensor, teacher: Tensor) -> Tensor:
    """Whether the same triplets make the same angles: Huber loss on their cosines (Park et al.,
    2019, eq. 7 and 8), among the first :data:`MOST_ANGLES` rows."""
    return smooth_l1_loss(_angles(student[:MOST_ANGLES]), _angles(teacher[:MOST_ANGLES]))


def neighbours(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Whether each row has the same neighbours among the other rows, to the same degree.

    The divergence of the softmax of cosines over the others (Passalis and Tefas, "Learning Deep
    Representations with Probabilistic Knowledge Transfer", 2018, eq. 5 to 7, with this kernel); 0
    of one row.
    """
    if len(student) < 2:
        return student.sum() * 0
    mine, theirs = _without_itself(student @ student.T), _without_itself(teacher @ teacher.T)
    return _divergence(mine / temperature, theirs / temperature)


def relations(student: Tensor, teacher: Tensor) -> Tensor:
    """Distances, and angles with twice the weight, as Park et al. combine them."""
    return distances(student, teacher) + 2 * angles(student, teacher)


def affinity(
    images: Tensor,
    texts: Tensor,
    teacher_images: Tensor,
    teacher_texts: Tensor,
    temperature: float,
) -> Tensor:
    """Whether each picture of a batch goes with the same texts to the same degree, and each text
    with the same pictures.

    The divergence of the softmax over the batch, both ways (Wu et al., "TinyCLIP: CLIP
    Distillation via Affinity Mimicking and Weight Inheritance", 2023, eq. 3 to 5).
    """
    mine = images @ texts.T / temperature
    theirs = teacher_images @ teacher_texts.T / temperature
    return (_divergence(mine, theirs) + _divergence(mine.T, theirs.T)) / 2


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of the softmax of logits, the mean over rows."""
    return kl_div(
        log_softmax(student, dim=1),
        log_softmax(teacher, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def _without_itself(square: Tensor) -> Tensor:
    """The diagonal taken out of (N, N): (N, N - 1)."""
    count = len(square)
    return square.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)


def _scaled_distances(rows: Tensor) -> Tensor:
    """Distances of all pairs, float32 (N * (N - 1) / 2,), with mean 1."""
    # Not torch.cdist, whose gradient is not a number where two rows are equal.
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    squares = (rows[first] - rows[second]).square().sum(1)
    found = squares.clamp_min(1e-12).sqrt()
    return found / found.mean().clamp_min(1e-6)


def _angles(rows: Tensor) -> Tensor:
    """Cosines of the angle at j between i and k: float32 (N, N, N), indices j, i, k."""
    edges = normalize(rows[None, :, :] - rows[:, None, :], dim=2)
    return edges @ edges.transpose(1, 2)
