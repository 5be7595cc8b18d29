"""Hard counts, to be watched beside a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from segpipe.losses import counting, penalties
from segpipe.losses.odds import check_threshold
from segpipe.losses.penalty_losses import Settings

if TYPE_CHECKING:
    from segpipe.backend.callbacks import Labelling


@keras.saving.register_keras_serializable(package="segpipe")
class HardCount(keras.metrics.Mean):
    """Number of predicted elements above a threshold, averaged over the samples seen.

    Exact, and of no use as a loss: its gradient is 0 everywhere, so that training on it changes
    nothing. The tests keep it as the negative control of the losses that count.

    Parameters
    ----------
    threshold : float
        t in (0, 1).
    fraction : bool
        Share of the elements, not their number.
    from_logits : bool
        Predictions are a sigmoid's logits.
    name, dtype
        As Keras has them.

    Raises
    ------
    ValueError
        If the threshold is not in (0, 1).
    """

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        fraction: bool = False,
        from_logits: bool = False,
        name: str = "hard_count",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        check_threshold(name, threshold)
        self.threshold = threshold
        self.fraction = fraction
        self.from_logits = from_logits

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count in (B, ..., C) predictions; the reference is not looked at."""
        values = counting.hard_count(
            y_pred,
            threshold=self.threshold,
            fraction=self.fraction,
            from_logits=self.from_logits,
        )
        super().update_state(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "threshold": self.threshold,
            "fraction": self.fraction,
            "from_logits": self.from_logits,
        }


class _Counted(Settings, keras.metrics.Mean):
    """Mean over the samples seen of a hard count of :mod:`segpipe.losses.penalties`."""

    def __init__(self, settings: dict[str, Any], name: str, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.take(settings)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count in logits against targets as the losses take them."""
        super().update_state(self.values(y_true, y_pred), sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), **self.settings()}


@keras.saving.register_keras_serializable(package="segpipe")
class FalsePositiveRegions(_Counted):
    """Number of false-positive regions of a sample, averaged over the samples seen.

    What :class:`segpipe.losses.RegionCount` punishes, exact: its value is no number of regions.

    Parameters
    ----------
    threshold, min_voxels, overlap, border, labelling
        As in :class:`segpipe.losses.RegionCount`. Region weights are not looked at.
    name, dtype
        As Keras has them.

    Raises
    ------
    ValueError
        If a setting is out of its range, or the channels do not fit when called.
    """

    function = staticmethod(penalties.false_positive_regions)

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        min_voxels: int = 1,
        overlap: float = 0.0,
        border: int = 1,
        labelling: Labelling = "graph",
        name: str = "false_positive_regions",
        dtype: Any = None,
    ) -> None:
        settings = {
            "threshold": threshold,
            "min_voxels": min_voxels,
            "overlap": overlap,
            "border": border,
            "labelling": labelling,
        }
        super().__init__(settings, name, dtype)


@keras.saving.register_keras_serializable(package="segpipe")
class MissedLesionCount(_Counted):
    """Number of missed lesions of a sample, averaged over the samples seen.

    Parameters
    ----------
    threshold, labelling
        As in :class:`segpipe.losses.MissedLesions`.
    name, dtype
        As Keras has them.

    Raises
    ------
    ValueError
        If a setting is out of its range, or the channels do not fit when called.
    """

    function = staticmethod(penalties.missed_lesion_count)

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        labelling: Labelling = "graph",
        name: str = "missed_lesion_count",
        dtype: Any = None,
    ) -> None:
        super().__init__({"threshold": threshold, "labelling": labelling}, name, dtype)
