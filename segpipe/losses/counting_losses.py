"""The functions of :mod:`segpipe.losses.counting` for ``model.compile(loss=…)``.

Every loss returns a value per sample, (B,), which Keras averages. A mask reaches it behind the
reference: ``y_true = concatenate([reference, mask], axis=-1)``.
"""

from __future__ import annotations

from typing import Any

import keras

from segpipe.losses import counting
from segpipe.losses.odds import check_threshold
from segpipe.losses.per_sample import PerSampleLoss


@keras.saving.register_keras_serializable(package="segpipe")
class CountAboveThreshold(PerSampleLoss):
    """Share, or number, of predicted elements above a threshold, with a gradient.

    ``Σ [p > t] / n`` for the n elements of a sample, by value; the gradient is that of
    ``Σ sg[z > z_t − δ] · log2(1 + exp((z − z_t)/τ)) / n``, z the log-odds of p. It ignores the
    reference and so punishes what is rightly found too: see :class:`CountPlusCrossEntropy` and
    :class:`MaskedCount`.

    Parameters
    ----------
    threshold : float
        t in (0, 1).
    fraction : bool
        False: the number of elements, not their share.
    form : {'straight_through', 'soft'}
        soft: the value is the soft one too.
    tau : float
        τ > 0, softness in logits.
    delta : float
        δ ≥ 0, width of the gate below the threshold in logits: far below there is no gradient.
    from_logits : bool
        Predictions are a sigmoid's logits. Probabilities of a softmax need no setting.
    reduction, name
        As Keras has them.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Notes
    -----
    y_true and y_pred are (B, ..., C). Nothing above the threshold: 0; the soft form is then what
    the elements within δ below it make up. Sources: as
    :func:`segpipe.losses.count_above_threshold`.
    """

    default_name = "count_above_threshold"

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        fraction: bool = True,
        form: counting.Form = "straight_through",
        tau: float = 0.5,
        delta: float = 2.0,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        name = name or self.default_name
        super().__init__(name=name, reduction=reduction)
        check_threshold(name, threshold)
        if form not in counting.FORMS:
            raise ValueError(
                f"{name}: form: expected one of {', '.join(counting.FORMS)}; received {form!r}."
            )
        if not (tau > 0 and delta >= 0):
            raise ValueError(
                f"{name}: expected tau above 0 and delta from 0; received {tau} and {delta}."
            )
        self.threshold = threshold
        self.fraction = fraction
        self.form = form
        self.tau = tau
        self.delta = delta
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        """(B,) values."""
        return counting.count_above_threshold(y_pred, **self.settings())

    def settings(self) -> dict[str, Any]:
        """Arguments of the function behind the loss."""
        return {
            "threshold": self.threshold,
            "fraction": self.fraction,
            "form": self.form,
            "tau": self.tau,
            "delta": self.delta,
            "from_logits": self.from_logits,
        }

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), **self.settings()}


@keras.saving.register_keras_serializable(package="segpipe")
class MaskedCount(CountAboveThreshold):
    """:class:`CountAboveThreshold` inside a region mask, or weighted by a region-weight map.

    ``Σ m·[p > t] / Σ m`` by value, with the gradient of the soft form; ``Σ m·[p > t]`` with
    ``fraction=False``.

    Parameters
    ----------
    threshold, fraction, form, tau, delta, from_logits, reduction, name
        As in :class:`CountAboveThreshold`.

    Raises
    ------
    ValueError
        When called without a mask.

    Notes
    -----
    y_pred is (B, ..., C); y_true is (B, ..., 2C), or (B, ..., C + 1) with one mask for all
    channels: ``concatenate([reference, mask], axis=-1)``, the mask not negative. The reference is
    not looked at: leave it out of the mask where lesions should be kept. Empty mask: 0. No
    element outside the mask gets a gradient. Source: segpipe's own (docs/losses.md).
    """

    default_name = "masked_count"

    def call(self, y_true, y_pred):
        """(B,) values."""
        return counting.masked_count(y_true, y_pred, **self.settings())


@keras.saving.register_keras_serializable(package="segpipe")
class CountPlusCrossEntropy(CountAboveThreshold):
    """Weighted :class:`CountAboveThreshold` plus weighted binary cross-entropy.

    ``count_weight · count + bce_weight · mean(−y log p − (1 − y) log(1 − p))``

    Parameters
    ----------
    threshold : float
    count_weight, bce_weight : float
        Not negative.
    fraction, form, tau, delta, from_logits, reduction, name
        As in :class:`CountAboveThreshold`.

    Raises
    ------
    ValueError
        If a setting is out of its range, or y_true has another shape than y_pred when called.

    Notes
    -----
    y_true and y_pred are (B, ..., C). Nothing above the threshold: the weighted cross-entropy
    alone. The count pulls every element near and above the threshold down, those of the reference
    too; the cross-entropy holds them up. Source: segpipe's own (docs/losses.md).
    """

    default_name = "count_plus_cross_entropy"

    def __init__(
        self,
        threshold: float = 0.5,
        count_weight: float = 1.0,
        bce_weight: float = 1.0,
        *,
        fraction: bool = True,
        form: counting.Form = "straight_through",
        tau: float = 0.5,
        delta: float = 2.0,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(
            threshold,
            fraction=fraction,
            form=form,
            tau=tau,
            delta=delta,
            from_logits=from_logits,
            reduction=reduction,
            name=name,
        )
        if not (count_weight >= 0 and bce_weight >= 0):
            raise ValueError(
                f"{self.name}: expected count_weight and bce_weight from 0; received "
                f"{count_weight} and {bce_weight}."
            )
        self.count_weight = count_weight
        self.bce_weight = bce_weight

    def settings(self) -> dict[str, Any]:
        """Arguments of the function behind the loss."""
        weights = {"count_weight": self.count_weight, "bce_weight": self.bce_weight}
        return {**super().settings(), **weights}

    def call(self, y_true, y_pred):
        """(B,) values."""
        return counting.count_plus_cross_entropy(y_true, y_pred, **self.settings())
