"""Blob loss, written anew from its paper, to compare segpipe's penalties with. Not in the package.

Source: Kofler et al., blob loss: instance imbalance aware loss functions for semantic segmentation,
2022, https://arxiv.org/abs/2205.08209. Every lesion is scored on its own, on a domain without the
other lesions: ``L = α · L_main + β · mean over samples, mean over lesions n of L(p, y_n on Ω_n)``,
Ω_n the background and lesion n; α = 2, β = 1 in the paper. Samples without a lesion enter the main
term alone. It rewards finding every lesion; false-positive regions are seen by each lesion's Dice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras import ops

from segpipe.backend.callbacks import Labelling
from segpipe.classes import IGNORE
from segpipe.losses import components, overlap

_SMOOTH = 1e-5


@dataclass(frozen=True)
class BlobLoss:
    """A :class:`segpipe.train.trainer.Objective`, for one label.

    Parameters
    ----------
    main_weight, blob_weight : float
        α and β.
    cross_entropy : bool
        Cross-entropy beside Dice in both terms, as in the authors' published example; False:
        Dice alone.
    labelling : {'graph', 'host'}
    """

    main_weight: float = 2.0
    blob_weight: float = 1.0
    cross_entropy: bool = True
    labelling: Labelling = "graph"

    names = ("main", "blob")

    def terms(self, logits, target, step):
        """``total``, ``main`` and ``blob``, from what the pipeline's targets hold."""
        index = ops.cast(target[..., :1], "int32")
        valid = ops.cast(index != IGNORE, "float32")
        reference = ops.cast(index == 1, "float32")
        main = overlap.soft_dice(logits, reference, valid)
        if self.cross_entropy:
            main = main + overlap.cross_entropy(logits, reference, valid)
        blob = blob_term(
            logits, reference, valid, cross_entropy=self.cross_entropy, labelling=self.labelling
        )
        main = ops.mean(main)
        return {
            "main": main,
            "blob": blob,
            "total": self.main_weight * main + self.blob_weight * blob,
        }


def blob_term(
    logits, reference, valid, *, cross_entropy: bool = True, labelling: Labelling = "graph"
):
    """Mean over the samples that have lesions of the mean over their lesions.

    Parameters
    ----------
    logits, reference, valid : (B, \\*spatial, 1) tensor
        ``reference`` and ``valid`` hold 0 and 1; what is not valid counts for nobody.
    cross_entropy : bool
    labelling : {'graph', 'host'}

    Returns
    -------
    scalar tensor
        0 where no sample has a lesion.

    Notes
    -----
    No lesion is masked out voxel by voxel: sums over the background are the same for all lesions
    of a sample, and those over each lesion are segment sums. The cross-entropy is a mean over all
    valid voxels in which other lesions count log 2, as if their logits were 0.
    """
    z = ops.cast(logits, "float32")
    lesions = components.label(reference > 0, labelling)
    ids = components.segments(lesions)
    shape = lesions.shape
    background = (1.0 - reference) * valid
    p = ops.sigmoid(z)

    def outside(values):
        """Sum over each sample's background, for each of its segments."""
        total = ops.sum(values * background, axis=tuple(range(1, len(shape))), keepdims=True)
        return ops.reshape(total * ops.ones_like(z), (-1,))

    size = components.sum_by(ids, reference)
    inside = components.sum_by(ids, p * reference)
    dice = (2 * inside + _SMOOTH) / (outside(p) + inside + size + _SMOOTH)
    loss = 1 - dice
    if cross_entropy:
        others = _all_lesions(size, shape) - size
        total = outside(ops.softplus(z)) + math.log(2) * others
        total = total + components.sum_by(ids, ops.softplus(-z) * reference)
        loss = loss + total / (outside(ops.ones_like(z)) + others + size)
    present = ops.cast(size > 0, "float32")
    lesion_count = components.per_sample(present, shape)
    means = components.per_sample(loss * present, shape) / ops.maximum(lesion_count, 1.0)
    samples = ops.sum(ops.cast(lesion_count > 0, "float32"))
    return ops.sum(means) / ops.maximum(samples, 1.0)


def _all_lesions(size, shape):
    """Voxels of all lesions of each sample, for each of its segments."""
    total = components.per_sample(size, shape)
    total = ops.reshape(total, (-1, *(1,) * (len(shape) - 1)))
    return ops.reshape(total * ops.ones((1, *shape[1:])), (-1,))
