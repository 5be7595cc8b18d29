"""Sums and means over selected elements, and how a target carries the selection.

A selection is a weight for every element: shapes stay static, and an empty one needs no branch.
"""

from __future__ import annotations

from keras import ops

_NOTHING = 1e-12  # total weight below which a selection is empty


def total(values, weight):
    """Sum of values times weights over each sample.

    Parameters
    ----------
    values : (B, ..., C) tensor
    weight : (B, ..., 1 or C) tensor
        Not negative.

    Returns
    -------
    (B,) tensor
    """
    return ops.sum(values * weight, axis=_axes(values))


def mean(values, weight, denominator=None):
    """``Σ w·v / Σ w`` over each sample; 0 where nothing is selected.

    Parameters
    ----------
    values : (B, ..., C) tensor
    weight : (B, ..., 1 or C) tensor
        Not negative.
    denominator : (B, ..., 1 or C) tensor, optional
        Summed in place of ``weight``.

    Returns
    -------
    (B,) tensor
    """
    counted = weight if denominator is None else denominator
    shared = values.shape[-1] // counted.shape[-1]  # channels that one weight stands for
    whole = ops.sum(counted, axis=_axes(counted)) * shared
    return total(values, weight) / ops.maximum(whole, _NOTHING)


def split_target(y_true, y_pred, names: tuple[str, ...], where: str, optional: str | None = None):
    """The reference and the further tensors that a target carries behind it.

    Parameters
    ----------
    y_true : (B, ..., T) tensor
        ``concatenate([reference, *further])`` along the last axis.
    y_pred : (B, ..., C) tensor
        The reference has as many channels; the further tensors have one each, or all of them C.
    names : tuple of str
        Of the further tensors, in order.
    where : str
        Who asks.
    optional : str or None
        Of one more tensor behind them, with one channel, which may be left out.

    Returns
    -------
    reference : (B, ..., C) tensor
    further : dict of str to (B, ..., 1 or C) tensor

    Raises
    ------
    ValueError
        If a tensor is missing, there are too many channels, their number is not known before the
        step runs, or another axis differs.
    """
    channels, found = y_pred.shape[-1], y_true.shape[-1]
    layouts = [dict.fromkeys(names, width) for width in sorted({1, channels if names else 1})]
    if optional is not None:
        layouts += [{**one, optional: 1} for one in layouts]
    for layout in layouts:
        if found == channels + sum(layout.values()):
            return _split(y_true, y_pred, layout, where)
    recipe = f"concatenate([{', '.join(['reference', *names])}], axis=-1)" if names else "reference"
    if optional is not None:
        behind = ", ".join(["reference", *names, optional])
        recipe = f"{recipe}, or concatenate([{behind}], axis=-1),"
    expected = " or ".join(str(channels + sum(layout.values())) for layout in layouts)
    problem = "the channels do not fit"
    advice = ""
    if found is None:
        problem = "how many channels y_true has is not known before the step runs"
        advice = " Compile the model anew after a fit with another target, or fix the shape."
    elif found < channels:
        problem = "channels of the reference are missing"
    elif found == channels:
        problem = f"{', '.join(names)} is missing"
    raise ValueError(
        f"{where}: {problem}. Expected y_true to be {recipe} with {expected} channels, as y_pred "
        f"has {channels}; received y_true of shape {tuple(y_true.shape)} and y_pred of shape "
        f"{tuple(y_pred.shape)}.{advice}"
    )


def _split(y_true, y_pred, layout: dict[str, int], where: str):
    end = y_pred.shape[-1]
    reference, further = y_true[..., :end], {}
    for name, width in layout.items():
        further[name] = y_true[..., end : end + width]
        end += width
    check_shape(reference, y_pred, "reference", where)
    return reference, further


def check_shape(tensor, y_pred, name: str, where: str) -> None:
    """Refuse a tensor that does not lie over the prediction.

    Raises
    ------
    ValueError
        If its shape is neither that of ``y_pred`` nor that with a single channel.
    """
    wanted, found = tuple(y_pred.shape), tuple(tensor.shape)
    fits = len(found) == len(wanted) and all(
        a == b or a is None or b is None for a, b in zip(found[:-1], wanted[:-1], strict=True)
    )
    if not fits or found[-1] not in (1, wanted[-1]):
        raise ValueError(
            f"{where}: {name} does not fit. Expected shape {wanted}, or one channel; received "
            f"{found}."
        )


def _axes(tensor) -> tuple[int, ...]:
    return tuple(range(1, len(tensor.shape)))
