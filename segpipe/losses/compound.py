"""The loss that training minimises, and its terms one by one."""

from __future__ import annotations

from dataclasses import dataclass

from keras import ops

from segpipe.config import LossConfig
from segpipe.losses import counting, overlap

IGNORE = 255  # class index of voxels that count for nobody


@dataclass(frozen=True)
class CompoundLoss:
    """``bce · BCE + dice · Dice + λ(step) · voxel count``.

    Parameters
    ----------
    config : LossConfig
    classes : int
        Foreground classes, at least 1.
    voxel_volume_mm3 : float
        Turns the budget into voxels.
    total_steps : int
        Of the whole training; the ramp is a share of it.
    """

    config: LossConfig
    classes: int
    voxel_volume_mm3: float
    total_steps: int

    def terms(self, logits, target, step):
        """Every term and the total.

        Parameters
        ----------
        logits : (B, \\*spatial, C) tensor, or a list from deep supervision, finest first
        target : (B, \\*spatial, 2) tensor
            Class index (0 background, 255 ignore) and the penalty weight W of every voxel.
        step : integer scalar tensor
            Steps done so far.

        Returns
        -------
        dict of str to (B,) or scalar tensor
            ``total``, ``bce``, ``dice``, ``voxel_count`` (before λ), ``false_positive_voxels``
            (the hard count, weighted) and ``voxel_count_lambda``.
        """
        outputs = logits if isinstance(logits, list | tuple) else [logits]
        reference, valid = self._reference(target)
        bce = dice = 0.0
        scale = sum(0.5**i for i in range(len(outputs)))
        for i, output in enumerate(outputs):
            stride = self._stride(outputs[0], output)
            share = 0.5**i / scale
            bce += share * overlap.cross_entropy(output, reference[stride], valid[stride])
            dice += share * overlap.soft_dice(output, reference[stride], valid[stride])
        settings = self.config.voxel_count
        z = counting.log_odds(ops.cast(outputs[0], "float32"))
        weight = ops.cast(target[..., 1:2], "float32") * valid
        count = counting.voxel_count_penalty(
            z,
            weight,
            threshold=settings.threshold,
            tau=settings.tau,
            delta=settings.delta,
            budget=settings.budget_mm3 / self.voxel_volume_mm3,
        )
        ramp = self.ramp(step)
        total = self.config.bce * bce + self.config.dice * dice + settings.weight * ramp * count
        return {
            "total": total,
            "bce": bce,
            "dice": dice,
            "voxel_count": count,
            "false_positive_voxels": counting.hard_voxel_count(
                z, weight, threshold=settings.threshold
            ),
            "voxel_count_lambda": settings.weight * ramp,
        }

    def ramp(self, step):
        """Share of its full weight that a penalty has at ``step``: 0, a line, then 1."""
        start = self.config.ramp_start * self.total_steps
        length = max(self.config.ramp_end * self.total_steps - start, 1.0)
        return ops.clip((ops.cast(step, "float32") - start) / length, 0.0, 1.0)

    def _reference(self, target):
        index = ops.cast(target[..., :1], "int32")
        valid = ops.cast(index != IGNORE, "float32")
        classes = ops.arange(1, self.classes + 1, dtype="int32")
        return ops.cast(index == classes, "float32"), valid

    @staticmethod
    def _stride(finest, output):
        steps = [f // o for f, o in zip(finest.shape[1:-1], output.shape[1:-1], strict=True)]
        return (slice(None), *(slice(None, None, step) for step in steps))
