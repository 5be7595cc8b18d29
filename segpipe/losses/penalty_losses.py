"""The functions of :mod:`segpipe.losses.penalties` for ``model.compile(loss=…)``.

They take logits and are to be added to a loss that teaches what a lesion is, such as cross-entropy:
alone they teach nothing. Every one returns a value per sample, (B,), which Keras averages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from segpipe.losses import penalties
from segpipe.losses.per_sample import PerSampleLoss

if TYPE_CHECKING:
    from segpipe.backend.callbacks import Labelling


class Settings:
    """Settings become attributes, arguments of the function behind the class, and configuration."""

    name: str
    function: Any

    def take(self, settings: dict[str, Any]) -> None:
        """Keep the constructor arguments of the class's own, or refuse them."""
        penalties.check_settings(self.name, settings)
        for setting, value in settings.items():
            setattr(self, setting, value)
        self._names = tuple(settings)

    def values(self, y_true, y_pred):
        """(B,) values of the function."""
        return type(self).function(y_true, y_pred, **self.settings())

    def settings(self) -> dict[str, Any]:
        """Arguments of the function behind the class."""
        return {name: getattr(self, name) for name in self._names}


class _Penalty(Settings, PerSampleLoss):
    default_name = ""

    def __init__(self, settings: dict[str, Any], reduction: str | None, name: str | None) -> None:
        super().__init__(name=name or self.default_name, reduction=reduction)
        self.take(settings)

    def call(self, y_true, y_pred):
        """(B,) values."""
        return self.values(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), **self.settings()}


@keras.saving.register_keras_serializable(package="segpipe")
class VoxelCount(_Penalty):
    """Penalty on the number of false-positive voxels, weighted by anatomy.

    ``log1p(N / b)`` with ``N = Σ_v W · sg[z > z_t − δ] · log2(1 + exp((z − z_t)/τ))`` over the
    voxels that are neither reference nor within ``border`` of it.

    Parameters
    ----------
    threshold : float
        In (0, 1); z_t is its logit.
    tau : float
        τ > 0, softness in logits.
    delta : float
        δ ≥ 0, width of the gate below the threshold in logits.
    budget : float
        b > 0, in voxels: the count at which the penalty is log 2.
    border : int
        Voxels around the reference, corners included, on which no penalty falls.
    reduction, name
        As Keras has them.

    Raises
    ------
    ValueError
        If a setting is out of its range, or the channels do not fit when called.

    Notes
    -----
    y_pred is (B, \\*spatial, C): C = 1, a sigmoid's logits; C > 1, a softmax's, background first.
    y_true is the reference in as many channels, or ``concatenate([reference, weight], axis=-1)``
    with one channel of region weights W ≥ 0 behind it; without it W is 1. The gradient's L1 norm
    with respect to the log-odds stays below 1/τ. Source: segpipe's own (docs/losses.md).
    """

    function = staticmethod(penalties.voxel_count)
    default_name = "voxel_count"

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        tau: float = 0.5,
        delta: float = 2.0,
        budget: float = 100.0,
        border: int = 1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        settings = {
            "threshold": threshold,
            "tau": tau,
            "delta": delta,
            "budget": budget,
            "border": border,
        }
        super().__init__(settings, reduction, name)


@keras.saving.register_keras_serializable(package="segpipe")
class RegionCount(_Penalty):
    """Penalty on the number of false-positive regions, whatever their size, weighted by anatomy.

    ``log1p(Σ_k W_k f_k g_k e_k)`` over the 26-connected (2-D: 8) components C_k of sg[p > t], see
    :func:`segpipe.losses.regions.region_count`. Use it with :class:`MissedLesions`: alone it
    trades sensitivity for precision.

    Parameters
    ----------
    threshold : float
        t in (0, 1).
    min_voxels : int
        Smallest region that counts, from 1.
    overlap : float
        In [0, 1): share of a region that may lie on the reference or its border while it is
        false-positive all the same.
    cut : float
        In [0, 1]: what a region at the border of the array counts, whatever its size, as that is
        unknown. 1: as if it ended there, so that ``min_voxels`` holds for it too.
    border : int
        Voxels around the reference, corners included, on which no penalty falls.
    labelling : {'graph', 'host'}
        Where components are labelled; the same labels. host is several times as fast beside a CPU.
    reduction, name
        As Keras has them.

    Raises
    ------
    ValueError
        If a setting is out of its range, or the channels do not fit when called.

    Notes
    -----
    y_true and y_pred are as in :class:`VoxelCount`; ``spatial`` must be static. No region: 0. The
    gradient's L1 norm with respect to the log-odds stays below 1. Source: segpipe's own
    (docs/losses.md).
    """

    function = staticmethod(penalties.region_count)
    default_name = "region_count"

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        min_voxels: int = 1,
        overlap: float = 0.0,
        cut: float = 0.5,
        border: int = 1,
        labelling: Labelling = "graph",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        settings = {
            "threshold": threshold,
            "min_voxels": min_voxels,
            "overlap": overlap,
            "cut": cut,
            "border": border,
            "labelling": labelling,
        }
        super().__init__(settings, reduction, name)


@keras.saving.register_keras_serializable(package="segpipe")
class MissedLesions(_Penalty):
    """Penalty on lesions of which nothing is found, the counterpart of :class:`RegionCount`.

    ``log1p(Σ_j m_j · mean over lesion j of softplus(−z))``, m_j 1 where no voxel of lesion j has
    p > t.

    Parameters
    ----------
    threshold : float
        t in (0, 1).
    labelling : {'graph', 'host'}
        As in :class:`RegionCount`.
    reduction, name
        As Keras has them.

    Raises
    ------
    ValueError
        If a setting is out of its range, or the channels do not fit when called.

    Notes
    -----
    y_true and y_pred are as in :class:`VoxelCount`; region weights are not looked at: a lesion
    missed weighs the same everywhere. No lesion missed: 0. Source: segpipe's own
    (docs/losses.md).
    """

    function = staticmethod(penalties.missed_lesions)
    default_name = "missed_lesions"

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        labelling: Labelling = "graph",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__({"threshold": threshold, "labelling": labelling}, reduction, name)
