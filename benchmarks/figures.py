"""`python -m benchmarks.figures`: the pictures of docs/losses.md, from the losses themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

IMAGES = Path(__file__).parents[1] / "docs" / "img"
_SIZE = 216
_REFERENCE, _MASK, _DOWN, _UP = "#1b7837", "#6a3d9a", "#b2182b", "#2166ac"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Maps = Mapping[str, np.ndarray]


def scene() -> dict[str, np.ndarray]:
    """Two lesions, one found and one missed, and three false-positive blobs, on a square of 72."""
    y, x = np.mgrid[:_SIZE, :_SIZE] * 72 / _SIZE

    def blob(row: float, column: float, radius: float, height: float) -> np.ndarray:
        distance = np.hypot(y - row, x - column) / radius
        return height * np.exp(-(distance**4)) - 6 * (1 - np.exp(-(distance**4)))

    found = [blob(20, 20, 8, 4.0), blob(22, 52, 6, -1.5)]
    wrong = [blob(52, 18, 9, 1.5), blob(50, 42, 3, 5.0), blob(58, 60, 5, 2.5)]
    z = np.maximum.reduce([np.full((_SIZE, _SIZE), -6.0), *found, *wrong])
    reference = (np.hypot(y - 19, x - 21) < 7) | (np.hypot(y - 22, x - 52) < 5)
    return {
        "z": z,
        "p": 1 / (1 + np.exp(-z)),
        "reference": reference.astype(float),
        "mask": (y > 36).astype(float) * (x < 52),
        "confidence": np.clip(1.15 - np.hypot(y - 40, x - 30) / 60, 0, 1),
    }


def slope(function: Callable[[Any], Any], z: np.ndarray) -> np.ndarray:
    """Gradient of a loss of (1, H, W, 1) logits."""
    import tensorflow as tf

    tensor = tf.constant(z[np.newaxis, ..., np.newaxis], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = tf.reduce_sum(function(tensor))
    return tape.gradient(value, tensor).numpy()[0, ..., 0]


def show_prediction(axes: Axes, maps: Maps, title: str) -> None:
    axes.imshow(maps["p"], cmap="Greys", vmin=0, vmax=1.15, interpolation="nearest")
    outlines(axes, maps)
    axes.set_title(title)


def show_slope(axes: Axes, values: np.ndarray, maps: Maps, title: str) -> None:
    """Red is pushed down, blue is pushed up; full colour at the largest value."""
    limit = np.abs(values).max() or 1.0
    axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    outlines(axes, maps)
    axes.set_title(title)


def show_part(axes: Axes, part: np.ndarray, maps: Maps, title: str) -> None:
    axes.imshow(part, cmap="Greys", vmin=0, vmax=1.6, interpolation="nearest")
    outlines(axes, maps)
    axes.set_title(title)


def outlines(axes: Axes, maps: Maps) -> None:
    """The reference in green and, where there is one, the mask in violet."""
    axes.contour(maps["reference"], [0.5], colors=_REFERENCE, linewidths=1.2)
    if "mask" in maps:
        axes.contour(maps["mask"], [0.5], colors=_MASK, linewidths=1.2, linestyles="dashed")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)


def _figure(width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06)
    return Figure(figsize=(width, height), layout=layout)


def panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = _figure(2.45 * count, 3.0)
    return figure, list(np.atleast_1d(figure.subplots(1, count)))


def save(figure: Figure, name: str, note: str) -> None:
    if note:
        figure.supxlabel(note, fontsize=8, color="0.3")
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"loss-{name}.png", dpi=150, metadata={"Software": None})


_NOTE = "green: reference; red: pushed down; blue: pushed up"
_MASK_NOTE = f"{_NOTE}; dashed: mask"


def without(maps: Maps, *names: str) -> Maps:
    return {name: values for name, values in maps.items() if name not in names}


def channels(*arrays: np.ndarray) -> np.ndarray:
    """(1, H, W, n) float32."""
    return np.stack(arrays, axis=-1)[np.newaxis].astype(np.float32)


def draw_count(maps: Maps) -> None:
    from segpipe import losses
    from segpipe.losses.counting import soft_above

    figure, (left, right) = panels(2)
    z = np.linspace(-4, 6, 801).astype(np.float32)
    left.plot(z, (z > 0).astype(float), color="0.5")
    left.text(2.6, 1.2, "hard count", color="0.4")
    soft = np.asarray(soft_above(z, threshold=0.5, tau=0.5, delta=2.0))
    left.plot(z, soft, color=_DOWN)
    left.text(2.3, 4.6, "its surrogate", color=_DOWN)
    left.axvspan(-4, -2, color="0.93", zorder=0)
    left.set(
        ylim=(-0.3, 6), xticks=range(-4, 7, 2), xlabel="log-odds z", title="one element, t = 0.5"
    )
    plain = without(maps, "mask")
    push = slope(lambda t: losses.count_above_threshold(t, from_logits=True), maps["z"])
    show_slope(right, push, plain, "gradient by z")
    save(figure, "count-above-threshold", f"grey: below the gate, no gradient\n{_NOTE}")


def draw_count_plus_cross_entropy(maps: Maps) -> None:
    from segpipe import losses

    plain, y = without(maps, "mask"), channels(maps["reference"])
    figure, axes = panels(3)
    for part, weights, title in (
        (axes[0], (1.0, 0.0), "count"),
        (axes[1], (0.0, 1.0), "cross-entropy"),
        (axes[2], (0.5, 1.0), "0.5 · count + cross-entropy"),
    ):
        objective = partial(
            losses.count_plus_cross_entropy,
            y,
            count_weight=weights[0],
            bce_weight=weights[1],
            from_logits=True,
        )
        push = slope(objective, maps["z"])
        show_slope(part, push, plain, title)
    save(figure, "count-plus-cross-entropy", f"gradient by z; {_NOTE}")


def draw_masked_count(maps: Maps) -> None:
    from segpipe import losses

    figure, axes = panels(2)
    share = float(losses.masked_count(None, channels(maps["p"]), channels(maps["mask"]))[0])
    show_prediction(axes[0], maps, f"prediction; value {share:.3f}")
    mask = channels(maps["mask"])
    push = slope(lambda t: losses.masked_count(None, t, mask, from_logits=True), maps["z"])
    show_slope(axes[1], push, maps, "gradient by z")
    save(figure, "masked-count", _MASK_NOTE)


def draw_masked_mean_squared_error(maps: Maps) -> None:
    from segpipe import losses

    figure, axes = panels(3)
    y, mask = channels(maps["reference"]), channels(maps["mask"])
    value = float(losses.masked_mean_squared_error(y, channels(maps["p"]), mask)[0])
    show_prediction(axes[0], maps, f"prediction; value {value:.3f}")
    show_part(axes[1], (maps["reference"] - maps["p"]) ** 2, maps, "squared error")
    push = slope(
        lambda t: losses.masked_mean_squared_error(y, t, mask, from_logits=True), maps["z"]
    )
    show_slope(axes[2], push, maps, "gradient by z")
    save(figure, "masked-mean-squared-error", _MASK_NOTE)


def draw_thresholded_mean_absolute_error(maps: Maps) -> None:
    from segpipe import losses

    plain, y = without(maps, "mask"), channels(maps["reference"])
    figure, axes = panels(3)
    value = float(losses.thresholded_mean_absolute_error(y, channels(maps["p"]))[0])
    show_prediction(axes[0], plain, f"prediction; value {value:.3f}")
    show_part(axes[1], (maps["p"] > 0.5).astype(float), plain, "selected: p > 0.5")
    push = slope(
        lambda t: losses.thresholded_mean_absolute_error(y, t, from_logits=True), maps["z"]
    )
    show_slope(axes[2], push, plain, "gradient by z")
    save(figure, "thresholded-mean-absolute-error", _NOTE)


def draw_filtered(maps: Maps) -> None:
    import keras

    from segpipe import losses

    plain, y = without(maps, "mask"), channels(maps["reference"])
    high, sure = maps["p"] > 0.5, maps["confidence"] > 0.8
    figure, axes = panels(4)
    show_part(axes[0], high.astype(float), plain, "p > 0.5")
    show_part(axes[1], sure.astype(float), plain, "confidence > 0.8")
    show_part(axes[2], (high & sure).astype(float), plain, "both: selected")
    push = slope(
        lambda t: losses.filtered_loss(
            y,
            t,
            conditions=[("prediction", ">", 0.5), ("confidence", ">", 0.8)],
            base=keras.losses.BinaryCrossentropy(from_logits=True, reduction="none"),
            further={"confidence": channels(maps["confidence"])},
            from_logits=True,
        ),
        maps["z"],
    )
    show_slope(axes[3], push, plain, "gradient by z")
    save(figure, "filtered", f"base: cross-entropy; {_NOTE}")


def draw_penalties(maps: Maps) -> None:
    """The three terms that the pipeline trains on, over the same scene."""
    from segpipe.losses import components, regions, voxels

    plain = without(maps, "mask")
    near = channels(maps["reference"]) > 0
    one = np.ones(near.shape, np.float32)
    free = one * ~near

    def region_count(t):
        labels = components.label(t > 0)
        existence, _ = regions.region_count(
            t, labels, one, near, min_voxels=1, overlap=0.0, cut=1.0
        )
        return regions.region_count_penalty(existence)

    terms = {
        "voxel count": lambda t: voxels.voxel_count_penalty(
            t, free, threshold=0.5, tau=0.5, delta=2.0, budget=100.0
        ),
        "region count": region_count,
        "missed lesions": lambda t: regions.missed_penalty(
            regions.missed_lesions(t, components.label(near), t > 0)[0]
        ),
    }
    figure, axes = panels(4)
    show_prediction(axes[0], plain, "prediction")
    for part, (name, term) in zip(axes[1:], terms.items(), strict=True):
        show_slope(part, slope(term, maps["z"]), plain, name)
    save(figure, "penalties", f"gradient by z, each on its own scale; {_NOTE}")


def draw_existence() -> None:
    """Pull on a whole region, by how sure it is, for three scores of its existence."""
    figure = _figure(4.9, 2.9)
    axes = figure.subplots()
    z = np.linspace(-8, 12, 600)
    p = 1 / (1 + np.exp(-z))
    axes.plot(z, p, color=_DOWN, label="segpipe: softplus, any size")
    axes.plot(z, p * (1 - p), color=_UP, label="mean probability, any size")
    axes.plot(z, 27 * p * (1 - p) ** 27, color="0.5", label="noisy-or, 27 voxels")
    axes.set(
        xlabel="log-odds z of every voxel of the region", ylabel="gradient, summed", ylim=(0, 1.1)
    )
    axes.legend(frameon=False, loc=(0.5, 0.42))
    save(figure, "existence", "")


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from segpipe.backend import select

    select(device="cpu", precision="float32")
    maps = scene()
    with mpl.rc_context(_STYLE):
        draw_count(maps)
        draw_count_plus_cross_entropy(maps)
        draw_masked_count(maps)
        draw_masked_mean_squared_error(maps)
        draw_thresholded_mean_absolute_error(maps)
        draw_filtered(maps)
        draw_penalties(maps)
        draw_existence()


if __name__ == "__main__":
    main()
