"""Cross-entropy and soft Dice from logits, with voxels that count for nobody."""

from __future__ import annotations

from keras import ops

_SMOOTH = 1.0  # voxels; keeps the Dice of an empty batch defined, invisible beside real lesions


def cross_entropy(logits, reference, valid):
    """Binary (one logit) or categorical cross-entropy, averaged over valid voxels.

    Parameters
    ----------
    logits : (B, \\*spatial, C) tensor
        C = 1: sigmoid. C > 1: softmax, background first.
    reference : (B, \\*spatial, max(1, C − 1)) float32 tensor
        One-hot over the foreground classes.
    valid : (B, \\*spatial, 1) float32 tensor
        0 where the reference says "ignore", else 1.

    Returns
    -------
    (B,) float32 tensor
        0 where no voxel is valid.
    """
    logits = ops.cast(logits, "float32")
    if logits.shape[-1] == 1:
        per_voxel = ops.softplus(logits) - logits * reference
    else:
        background = 1.0 - ops.sum(reference, axis=-1, keepdims=True)
        target = ops.concatenate([background, reference], axis=-1)
        chosen = ops.sum(logits * target, axis=-1, keepdims=True)
        per_voxel = ops.logsumexp(logits, axis=-1, keepdims=True) - chosen
    axes = tuple(range(1, len(logits.shape)))
    total = ops.sum(valid, axis=axes)
    return ops.sum(per_voxel * valid, axis=axes) / ops.maximum(total, 1.0)


def soft_dice(logits, reference, valid):
    """One minus the soft Dice of each foreground class, averaged over classes.

    Sums run over the whole batch, as patches without a lesion have no Dice of their own; every
    sample carries the batch's value.

    Parameters
    ----------
    logits, reference, valid
        As in :func:`cross_entropy`.

    Returns
    -------
    (B,) float32 tensor
        In [0, 1). Reference and prediction both empty: near 0.
    """
    logits = ops.cast(logits, "float32")
    if logits.shape[-1] == 1:
        probability = ops.sigmoid(logits)
    else:
        probability = ops.softmax(logits, axis=-1)[..., 1:]
    axes = tuple(range(len(logits.shape) - 1))
    overlap = ops.sum(probability * reference * valid, axis=axes)
    size = ops.sum((probability + reference) * valid, axis=axes)
    dice = (2.0 * overlap + _SMOOTH) / (size + _SMOOTH)
    return ops.ones_like(logits[:, *(0,) * (len(logits.shape) - 1)]) * ops.mean(1.0 - dice)
