"""The loss that training minimises, and its terms one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras import ops

from segpipe.backend.callbacks import Labelling
from segpipe.classes import IGNORE
from segpipe.config import LossConfig
from segpipe.losses import components, overlap, regions, voxels
from segpipe.losses.odds import log_odds

_CUT = {"full": 1.0, "half": 0.5, "none": 0.0}
_AT_ONCE = 1e-6  # length of a ramp that ends where it starts, as a share of the training
_SIZE_TOLERANCE = 1e-6  # share by which voxel volumes may be rounded


@dataclass(frozen=True)
class CompoundLoss:
    """``bce · BCE + dice · Dice + ramp(progress) · Σ λ · penalty``.

    The penalties are voxel count, region count and missed lesions, on the finest output. One of
    weight 0 is neither computed nor reported.

    Parameters
    ----------
    config : LossConfig
    classes : int
        Foreground classes, at least 1.
    voxel_volume_mm3 : float
        Turns the budget and the smallest size into voxels.
    labelling : {'graph', 'host'}
        Where components are labelled.
    """

    config: LossConfig
    classes: int
    voxel_volume_mm3: float
    labelling: Labelling = "graph"

    @property
    def weights(self) -> dict[str, float]:
        """λ after the ramp of every penalty that is switched on."""
        every = {
            "voxel_count": self.config.voxel_count.weight,
            "region_count": self.config.region_count.weight,
            "missed": self.config.missed_weight,
        }
        return {name: weight for name, weight in every.items() if weight > 0}

    @property
    def names(self) -> tuple[str, ...]:
        """What :meth:`terms` returns beside the total."""
        counts = {"region_count": "false_positive_regions", "missed": "missed_lesions"}
        penalties = tuple(self.weights)
        hard = [counts[name] for name in penalties if name in counts]
        return (
            *("bce", "dice", *penalties),
            *(f"{name}_lambda" for name in penalties),
            *("false_positive_voxels", *hard),
            *(("component_threshold",) if hard else ()),
        )

    def terms(self, logits, target, progress):
        """Every term and the total.

        Parameters
        ----------
        logits : (B, \\*spatial, C) tensor, or a list from deep supervision, finest first
        target : (B, \\*spatial, 2) tensor
            Class index of every voxel (0 background, 254 background in the band around the
            reference, 255 ignore) and its region weight, on the reference too.
        progress : scalar, or scalar tensor
            Share of the training that is done, in [0, 1]; the ramp follows it.

        Returns
        -------
        dict of str to (B,) or scalar tensor
            ``total`` and :attr:`names`: the terms before λ; the λ at this progress;
            ``false_positive_voxels``, hard and weighted by region; ``false_positive_regions`` and
            ``missed_lesions``, hard numbers at ``component_threshold``.
        """
        outputs = logits if isinstance(logits, list | tuple) else [logits]
        index = ops.cast(target[..., :1], "int32")
        reference = self._reference(index)
        terms = self._overlap(outputs, reference, ops.cast(index != IGNORE, "float32"))
        total = self.config.bce * terms["bce"] + self.config.dice * terms["dice"]
        z = log_odds(outputs[0])
        weight = ops.cast(target[..., 1:2], z.dtype)
        spared = index != 0
        terms |= self._voxels(z, ops.where(spared, 0.0, weight))
        terms |= self._components(z, reference > 0, weight, spared, progress)
        ramp = self.ramp(progress)
        for name, full in self.weights.items():
            terms[f"{name}_lambda"] = full * ramp
            total = total + full * ramp * terms[name]
        return terms | {"total": total}

    def ramp(self, progress):
        """Share of its full weight that a penalty has at ``progress``: 0, a line, then 1."""
        start = self.config.ramp_start
        length = max(self.config.ramp_end - start, _AT_ONCE)
        return ops.clip((ops.cast(progress, "float32") - start) / length, 0.0, 1.0)

    def component_threshold(self, progress):
        """t_c at ``progress``: the probability above which a voxel is part of a region found."""
        start, end = self.config.threshold_start, self.config.threshold_end
        return start + (end - start) * self.ramp(progress)

    def _overlap(self, outputs, reference, valid):
        """Cross-entropy and Dice, halved in weight from level to level of deep supervision."""
        bce = dice = 0.0
        scale = sum(0.5**i for i in range(len(outputs)))
        for i, output in enumerate(outputs):
            stride = self._stride(outputs[0], output)
            share = 0.5**i / scale
            bce += share * overlap.cross_entropy(output, reference[stride], valid[stride])
            dice += share * overlap.soft_dice(output, reference[stride], valid[stride])
        return {"bce": bce, "dice": dice}

    def _voxels(self, z, weight):
        settings = self.config.voxel_count
        terms = {
            "false_positive_voxels": voxels.hard_voxel_count(
                z, weight, threshold=settings.threshold
            )
        }
        if "voxel_count" in self.weights:
            terms["voxel_count"] = voxels.voxel_count_penalty(
                z,
                weight,
                threshold=settings.threshold,
                tau=settings.tau,
                delta=settings.delta,
                budget=settings.budget_mm3 / self.voxel_volume_mm3,
            )
        return terms

    def _components(self, z, reference, weight, spared, progress):
        """Region count and missed lesions; both masks are labelled in one go."""
        wanted = [name for name in ("region_count", "missed") if name in self.weights]
        if not wanted:
            return {}
        threshold = self.component_threshold(progress)
        found = z > ops.cast(ops.log(threshold / (1.0 - threshold)), z.dtype)
        masks = {"region_count": found, "missed": reference}
        together = ops.concatenate([masks[name] for name in wanted], axis=0)
        parts = ops.split(components.label(together, self.labelling), len(wanted), axis=0)
        labels = dict(zip(wanted, parts, strict=True))
        terms = {"component_threshold": threshold}
        if "region_count" in labels:
            settings = self.config.region_count
            existence, terms["false_positive_regions"] = regions.region_count(
                z,
                labels["region_count"],
                weight,
                spared,
                min_voxels=self._min_voxels(settings.min_size_mm3),
                overlap=settings.overlap,
                cut=_CUT[settings.cut],
            )
            terms["region_count"] = regions.region_count_penalty(existence)
        if "missed" in labels:
            distance, terms["missed_lesions"] = regions.missed_lesions(z, labels["missed"], found)
            terms["missed"] = regions.missed_penalty(distance)
        return terms

    def _min_voxels(self, min_size_mm3: float) -> int:
        return math.ceil(min_size_mm3 / self.voxel_volume_mm3 * (1 - _SIZE_TOLERANCE))

    def _reference(self, index):
        """One-hot over the foreground classes."""
        classes = ops.arange(1, self.classes + 1, dtype="int32")
        return ops.cast(index == classes, "float32")

    @staticmethod
    def _stride(finest, output):
        steps = [f // o for f, o in zip(finest.shape[1:-1], output.shape[1:-1], strict=True)]
        # A coarse voxel stands for a block of fine ones: its target is that nearest to the middle.
        return (slice(None), *(slice(step // 2, None, step) for step in steps))
