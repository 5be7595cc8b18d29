"""Losses over a part of the elements, as functions of tensors, one value per sample."""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from segpipe.losses import selection
from segpipe.losses.odds import widen

Condition = tuple[str, str, float]
"""Tensor, relation and value: ``("prediction", ">", 0.5)``."""

RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


def masked_mean_squared_error(y_true, y_pred, mask=None, *, from_logits: bool = False):
    """``Σ m (y − p)² / Σ m`` over each sample.

    Parameters
    ----------
    y_true : (B, ..., 2C or C + 1) tensor
        ``concatenate([reference, mask])`` along the last axis; the reference alone, (B, ..., C),
        where ``mask`` is given.
    y_pred : (B, ..., C) tensor
        Probabilities, or a sigmoid's logits.
    mask : (B, ..., 1 or C) tensor, optional
        Not negative: 1 inside and 0 outside, or a weight.
    from_logits : bool

    Returns
    -------
    (B,) float32 tensor
        0 where the mask is empty, with gradient 0. No element outside the mask gets a gradient.
        A selection is a weight: values outside it have to be finite.

    Raises
    ------
    ValueError
        If the mask is missing, or shapes do not fit.
    """
    where = "MaskedMeanSquaredError"
    if mask is None:
        y_true, further = selection.split_target(y_true, y_pred, ("mask",), where)
        mask = further["mask"]
    selection.check_shape(mask, y_pred, "mask", where)
    selection.check_shape(y_true, y_pred, "reference", where)
    p = _probability(y_pred, from_logits)
    error = ops.square(p - ops.cast(y_true, p.dtype))
    return selection.mean(error, ops.cast(mask, p.dtype))


def thresholded_mean_absolute_error(
    y_true, y_pred, *, threshold: float = 0.5, from_logits: bool = False
):
    """Mean of ``|y − p|`` over the elements of each sample with p > t.

    Parameters
    ----------
    y_true, y_pred : (B, ..., C) tensor
        Reference, and probabilities or a sigmoid's logits.
    threshold : float
        t in (0, 1).
    from_logits : bool

    Returns
    -------
    (B,) float32 tensor
        0 where nothing is above the threshold, with gradient 0. The selection itself has no
        gradient: an element below the threshold gets none.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    selection.split_target(y_true, y_pred, (), "ThresholdedMeanAbsoluteError")
    p = _probability(y_pred, from_logits)
    above = ops.stop_gradient(ops.cast(p > threshold, p.dtype))
    return selection.mean(ops.abs(ops.cast(y_true, p.dtype) - p), above)


def filtered_loss(
    y_true,
    y_pred,
    *,
    conditions: Sequence[Condition],
    base: Callable[[Any, Any], Any],
    further: Mapping[str, Any] | None = None,
    weight: str | None = None,
    weight_in_mean: bool = False,
    from_logits: bool = False,
):
    """Mean of an elementwise loss over the elements that meet all conditions.

    With ``s`` 1 where all conditions hold, else 0, ``ω`` the weight (1 without) and ``l`` the
    loss: ``Σ s·ω·l / Σ s`` over each sample, or ``Σ s·ω·l / Σ s·ω`` with ``weight_in_mean``.

    Parameters
    ----------
    y_true, y_pred : (B, ..., C) tensor
        Reference and prediction.
    conditions : sequence of (tensor, relation, value)
        tensor: ``prediction``, ``reference`` or a name in ``further``; relation: one of
        ``> >= < <= == !=``. None at all select everything.
    base : callable
        (y_true, y_pred) to a loss for every element: a function or Loss of Keras (with
        ``reduction="none"``), or any other that works element by element. It gets tensors with a
        last axis of length 1, over which Keras takes its means, and y_pred as it is; a function of
        Keras, which would clip logits, gets probabilities.
    further : mapping of str to (B, ..., 1 or C) tensor
    weight : str, optional
        Name in ``further`` of a weight ω ≥ 0.
    weight_in_mean : bool
        Divide by the weights selected, not by their number.
    from_logits : bool
        y_pred holds logits. Conditions on ``prediction`` see probabilities in any case.

    Returns
    -------
    (B,) float32 tensor
        0 where nothing is selected, with gradient 0. Only ``l`` and the weight carry a gradient,
        and no element that is not selected gets any. ``l`` has to be finite everywhere.

    Raises
    ------
    ValueError
        If a tensor is not there or does not fit, or ``base`` is not elementwise.
    """
    further = further or {}
    for name, tensor in further.items():
        selection.check_shape(tensor, y_pred, name, "FilteredLoss")
    y_pred = widen(y_pred)
    y_true = ops.cast(y_true, y_pred.dtype)
    probability = _probability(y_pred, from_logits)
    tensors = {"reference": y_true, "prediction": probability, **further}
    selected = ops.ones_like(y_pred, dtype="bool")
    for name, relation, value in conditions:
        tensor = ops.stop_gradient(widen(_named(tensors, name)))
        selected = ops.logical_and(selected, RELATIONS[relation](tensor, value))
    chosen = ops.cast(selected, y_pred.dtype)
    values = elementwise(base, y_true, probability if _of_keras(base) else y_pred)
    if weight is None:
        return selection.mean(values, chosen)
    weighted = chosen * ops.cast(_named(tensors, weight), chosen.dtype)
    return selection.mean(values, weighted, None if weight_in_mean else chosen)


def elementwise(base: Callable[[Any, Any], Any], y_true, y_pred):
    """What ``base`` gives for every element.

    Parameters
    ----------
    base : callable
        As in :func:`filtered_loss`.
    y_true, y_pred : (B, ..., C) tensor

    Returns
    -------
    (B, ..., C) tensor

    Raises
    ------
    ValueError
        If ``base`` gives anything else than a value per element.
    """
    values = base(ops.expand_dims(y_true, -1), ops.expand_dims(y_pred, -1))
    wanted = tuple(y_pred.shape)
    if tuple(values.shape) not in (wanted, (*wanted, 1)):
        raise ValueError(
            f"FilteredLoss: base is not elementwise. Expected a value for each of {wanted}; "
            f"received {tuple(values.shape)}. Give a Keras loss reduction='none'."
        )
    return widen(ops.reshape(values, ops.shape(y_pred)))


def check_depends_on_prediction(base: Callable[[Any, Any], Any]) -> None:
    """Refuse losses that work across classes: of one class alone they are the same everywhere.

    Raises
    ------
    ValueError
        If ``base`` gives one value for all of several predictions, whatever the reference is.
    """
    probes = [0.01, 0.2, 0.6, 0.9, 0.99]  # no loss that depends on p is the same at all of them
    y_pred = ops.reshape(ops.convert_to_tensor(probes, "float32"), (1, len(probes)))
    for reference in (0.0, 1.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras only warns of what is refused here
            try:
                values = elementwise(base, ops.full_like(y_pred, reference), y_pred)
            except ValueError:
                raise
            except Exception as error:  # what a backend says of a loss that wants other shapes
                raise ValueError(
                    "FilteredLoss: base cannot be computed for every element by itself. Expected "
                    f"a loss such as binary_crossentropy; received {_name(base)}."
                ) from error
        found = ops.convert_to_numpy(values)[0]
        if found.max() - found.min() > max(1e-6, 1e-4 * np.abs(found).max()):  # not by rounding
            return
    raise ValueError(
        "FilteredLoss: base does not depend on a single prediction: it works across classes, as "
        "categorical cross-entropy does. Expected a loss for every element, such as "
        "binary_crossentropy."
    )


def _name(base: Callable[[Any, Any], Any]) -> str:
    return getattr(base, "__name__", type(base).__name__)


def _of_keras(base: Callable[[Any, Any], Any]) -> bool:
    """Whether it is a plain function of Keras: those take probabilities."""
    return inspect.isfunction(base) and base.__module__.partition(".")[0] == "keras"


def _named(tensors: Mapping[str, Any], name: str):
    if name not in tensors:
        raise ValueError(
            f"FilteredLoss: {name} is missing. Expected it among the further tensors; received "
            f"{', '.join(tensors)}."
        )
    return tensors[name]


def _probability(y_pred, from_logits: bool):
    y_pred = widen(y_pred)
    return keras.ops.sigmoid(y_pred) if from_logits else y_pred
