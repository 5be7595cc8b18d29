"""The functions of :mod:`segpipe.losses.filtered` for ``model.compile(loss=…)``.

Every loss returns a value per sample, (B,), which Keras averages. Masks, weights and other tensors
reach it behind the reference: ``y_true = concatenate([reference, mask], axis=-1)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from segpipe.losses import filtered, selection
from segpipe.losses.odds import check_threshold
from segpipe.losses.per_sample import PerSampleLoss


@keras.saving.register_keras_serializable(package="segpipe")
class MaskedMeanSquaredError(PerSampleLoss):
    """Mean squared error over a mask: ``Σ m (y − p)² / Σ m``.

    Parameters
    ----------
    from_logits : bool
        Predictions are a sigmoid's logits.
    reduction, name
        As Keras has them.

    Raises
    ------
    ValueError
        When called without a mask.

    Notes
    -----
    y_pred is (B, ..., C); y_true is (B, ..., 2C), or (B, ..., C + 1) with one mask for all
    channels: ``concatenate([reference, mask], axis=-1)``, the mask not negative. Empty mask: 0.
    No element outside the mask gets a gradient; values there have to be finite all the same.
    """

    def __init__(
        self,
        *,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "masked_mean_squared_error",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        """(B,) values."""
        return filtered.masked_mean_squared_error(y_true, y_pred, from_logits=self.from_logits)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="segpipe")
class ThresholdedMeanAbsoluteError(PerSampleLoss):
    """Mean of ``|y − p|`` over the elements whose prediction exceeds the threshold.

    Parameters
    ----------
    threshold : float
        t in (0, 1).
    from_logits : bool
        Predictions are a sigmoid's logits.
    reduction, name
        As Keras has them.

    Raises
    ------
    ValueError
        If the threshold is out of its range, or y_true has another shape than y_pred when called.

    Notes
    -----
    y_true and y_pred are (B, ..., C). Nothing above the threshold: 0. Elements below it get no
    gradient, so this loss alone finds no lesion; add one that does.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "thresholded_mean_absolute_error",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        check_threshold(name, threshold)
        self.threshold = threshold
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        """(B,) values."""
        return filtered.thresholded_mean_absolute_error(
            y_true, y_pred, threshold=self.threshold, from_logits=self.from_logits
        )

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        settings = {"threshold": self.threshold, "from_logits": self.from_logits}
        return {**super().get_config(), **settings}


@keras.saving.register_keras_serializable(package="segpipe")
class FilteredLoss(PerSampleLoss):
    """Mean of any elementwise loss over the elements that meet all of several conditions.

    ``Σ s·ω·l / Σ s``, s 1 where all conditions hold, ω an optional weight, l the loss.

    Parameters
    ----------
    conditions : sequence of (tensor, relation, value)
        tensor: ``prediction``, ``reference``, or a name in ``further``; relation: one of
        ``> >= < <= == !=``. An element is taken where all of them hold.
    base : str or callable
        An elementwise loss: its name in Keras, a Loss with ``reduction="none"``, or a function.
        A function of your own has to be registered with Keras for the loss to be saved.
    further : sequence of str
        Names of the tensors that y_true holds behind the reference, in order.
    weight : str, optional
        The one in ``further`` that multiplies the loss.
    weight_in_mean : bool
        Divide by ``Σ s·ω`` instead of ``Σ s``.
    from_logits : bool
        Predictions are a sigmoid's logits. Conditions see probabilities, and so does a named
        function of Keras; a Loss or a function of your own gets the predictions as they are.
    reduction, name
        As Keras has them.

    Raises
    ------
    ValueError
        If a condition or the weight names a tensor that is not there, two tensors have one name,
        a relation is unknown,
        ``base`` works across classes, or, when called, a tensor is missing or ``base`` is not
        elementwise.

    Examples
    --------
    Squared error where the prediction is above 0.5 and a confidence map above 0.8:

    >>> import numpy as np
    >>> loss = FilteredLoss(
    ...     [("prediction", ">", 0.5), ("confidence", ">", 0.8)],
    ...     "mean_squared_error",
    ...     further=["confidence"],
    ... )
    >>> reference = np.zeros((1, 4, 1))
    >>> confidence = np.array([0.9, 0.9, 0.1, 0.9]).reshape(1, 4, 1)
    >>> prediction = np.array([1.0, 0.0, 1.0, 0.6]).reshape(1, 4, 1)
    >>> round(float(loss(np.concatenate([reference, confidence], axis=-1), prediction)), 4)
    0.68

    Notes
    -----
    y_pred is (B, ..., C); y_true has C channels, then one for each further tensor, or C for each.
    Nothing selected: 0. Only the loss and the weight carry a gradient, not the conditions.
    """

    def __init__(
        self,
        conditions: Sequence[filtered.Condition],
        base: str | Callable[[Any, Any], Any] = "mean_squared_error",
        weight: str | None = None,
        *,
        further: Sequence[str] = (),
        weight_in_mean: bool = False,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "filtered_loss",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        if any(isinstance(one, str) or len(one) != 3 for one in conditions):
            raise ValueError(
                f"{name}: conditions: expected a list of triples such as ('prediction', '>', 0.5); "
                f"received {conditions!r}."
            )
        if isinstance(further, str):
            raise ValueError(
                f"{name}: further: expected a list of names; received {further!r} alone."
            )
        self.conditions: list[filtered.Condition] = [
            (tensor, relation, float(value)) for tensor, relation, value in conditions
        ]
        self.base = keras.losses.get(base)
        self.weight = weight
        self.further = tuple(further)
        self.weight_in_mean = weight_in_mean
        self.from_logits = from_logits
        filtered.check_depends_on_prediction(self.base)
        known = ("prediction", "reference", *self.further)
        if len(set(known)) < len(known):
            raise ValueError(
                f"{name}: further: expected names that differ from each other and from prediction "
                f"and reference; received {', '.join(self.further)}."
            )
        for tensor in (*(condition[0] for condition in self.conditions), weight):
            if tensor is not None and tensor not in known:
                raise ValueError(
                    f"{name}: {tensor}: expected one of {', '.join(known)}. Name it in further."
                )
        for _, relation, _ in self.conditions:
            if relation not in filtered.RELATIONS:
                raise ValueError(
                    f"{name}: relation: expected one of {' '.join(filtered.RELATIONS)}; received "
                    f"{relation!r}."
                )

    def call(self, y_true, y_pred):
        """(B,) values."""
        reference, further = selection.split_target(y_true, y_pred, self.further, "FilteredLoss")
        return filtered.filtered_loss(
            reference,
            y_pred,
            conditions=self.conditions,
            base=self.base,
            further=further,
            weight=self.weight,
            weight_in_mean=self.weight_in_mean,
            from_logits=self.from_logits,
        )

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "conditions": [list(condition) for condition in self.conditions],
            "base": keras.losses.serialize(self.base),
            "weight": self.weight,
            "further": list(self.further),
            "weight_in_mean": self.weight_in_mean,
            "from_logits": self.from_logits,
        }
