"""Losses: masking by weights against gathering, and what the penalties add to a training step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.timing import Spread, alternate, fresh, seconds

_SHARES = (0.01, 0.1, 0.5)
_PATCH, _FEATURES = (96, 96, 96), (32, 64, 128, 256)
_SIDE, _CALLS = 128, 10

Row = dict[str, Any]


def run(repeat: int, smoke: bool) -> list[Row]:
    """Rows for masking, then for the penalties and blob loss; each part in a process of its own."""
    side, calls = (16, 1) if smoke else (_SIDE, _CALLS)
    patch, features = ((16, 16, 16), (2, 4)) if smoke else (_PATCH, _FEATURES)
    return [
        *fresh(measure_masking, side, calls, 5 * repeat),
        *fresh(measure_terms, patch, calls, 3 * repeat),
        *fresh(measure_step, patch, features, repeat),
    ]


def _row(work: str, taken: dict[str, Spread], name: str, beside: str) -> Row:
    return {
        "work": work,
        "ms": Spread(tuple(1000 * s for s in taken[name].samples)),
        "beside": beside,
        "its ms": Spread(tuple(1000 * s for s in taken[beside].samples)),
        "ratio": taken[name].over(taken[beside]),
    }


def measure_masking(side: int, calls: int, repeat: int) -> list[Row]:
    """Value and gradient of the mean squared error over a mask, on one sample of side³."""
    from segpipe.backend import select

    select(device="cpu", precision="float32")

    import tensorflow as tf

    from segpipe.losses import masked_mean_squared_error

    def gather(y, p, mask):
        chosen = mask > 0
        error = tf.boolean_mask(p, chosen) - tf.boolean_mask(y, chosen)
        return tf.reduce_mean(tf.square(error))

    def with_gradient(loss):
        def call(y, p, mask):
            with tf.GradientTape() as tape:
                tape.watch(p)
                value = tf.reduce_sum(loss(y, p, mask))
            return value, tf.convert_to_tensor(tape.gradient(value, p))

        return call

    plain = {"weights": with_gradient(masked_mean_squared_error), "gather": with_gradient(gather)}
    rng = np.random.default_rng([0, 74])
    y, p = (tf.constant(rng.random((1, side, side, side, 1)), tf.float32) for _ in range(2))
    rows = []
    for mode in ("eager", "compiled"):
        functions = plain if mode == "eager" else {n: tf.function(f) for n, f in plain.items()}
        for share in _SHARES:
            mask = tf.constant(rng.random(y.shape) < share, tf.float32)
            _agree(functions, y, p, mask)
            works = {n: partial(f, y, p, mask) for n, f in functions.items()}
            taken = _alternate(works, calls, repeat)
            work = f"squared error over {share:.0%} of {side}³, {mode}"
            rows.append(_row(work, taken, "weights", "gather"))
    return rows


def _agree(functions, y, p, mask) -> None:
    """Both ways must give one value and one gradient, or the times compare nothing."""
    (a, slope_a), (b, slope_b) = (f(y, p, mask) for f in functions.values())
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4)
    np.testing.assert_allclose(slope_a.numpy(), slope_b.numpy(), rtol=1e-4, atol=1e-12)


def measure_terms(patch, calls: int, repeat: int) -> list[Row]:
    """Value and gradient of losses by their logits: with and without the penalties, blob loss."""
    from segpipe.backend import select

    device = select(device="cpu", precision="float32")

    import tensorflow as tf

    from benchmarks.blob_loss import BlobLoss
    from benchmarks.training import PENALTIES, PLAIN, Work, make_batch
    from segpipe.backend.callbacks import choose_labelling
    from segpipe.losses.compound import CompoundLoss

    target = tf.constant(make_batch(Work((1,), patch, 1))[1])
    logits = tf.constant(blobs(patch)[np.newaxis, ..., np.newaxis])
    chosen = choose_labelling("auto", device)
    losses = {
        "penalties": CompoundLoss(PENALTIES, 1, 1.0, chosen),
        "penalties, labelled in the graph": CompoundLoss(PENALTIES, 1, 1.0, "graph"),
        "blob loss": BlobLoss(labelling=chosen),
        "none": CompoundLoss(PLAIN, 1, 1.0),
    }

    def compiled(loss):
        @tf.function
        def call(z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = tf.reduce_sum(loss.terms(z, target, 1.0)["total"])
            return tf.reduce_sum(tape.gradient(value, z))

        return call

    works = {name: partial(compiled(loss), logits) for name, loss in losses.items()}
    taken = _alternate(works, calls, repeat)
    size = "×".join(map(str, patch))
    return [_row(f"loss, {size}: {name}", taken, name, "none") for name in losses if name != "none"]


def measure_step(patch, features, repeat: int) -> list[Row]:
    """Training steps with the penalties, with blob loss and with neither, in alternation."""
    from segpipe.backend import select

    device = select()

    from benchmarks.blob_loss import BlobLoss
    from benchmarks.training import (
        PENALTIES,
        PLAIN,
        Work,
        make_batch,
        make_trainer,
        seconds_per_step,
    )
    from segpipe.backend.callbacks import choose_labelling

    work = Work(features, patch, 1)
    data = make_batch(work)
    labelling = choose_labelling("auto", device)
    losses: dict[str, Any] = {
        "penalties": PENALTIES,
        "blob loss": BlobLoss(labelling=labelling),
        "none": PLAIN,
    }
    trainers = {
        name: make_trainer(work, loss, jit=device.jit, labelling=labelling)
        for name, loss in losses.items()
    }
    for trainer in trainers.values():
        find_some(trainer, data)
        seconds_per_step(trainer, data, 1)  # compiles
    taken = alternate(
        {n: partial(seconds_per_step, t, data, 1) for n, t in trainers.items()}, repeat
    )
    told = f"step, {work}, {device.precision}"
    return [_row(f"{told}: {name}", taken, name, "none") for name in losses if name != "none"]


def find_some(trainer: Any, data: tuple[np.ndarray, np.ndarray], share: float = 0.05) -> None:
    """Shift a new network's last bias so that this share of the voxels is found: work to label."""
    logits = np.asarray(trainer.network(data[0][:1]))
    bias = trainer.network.layers[-1].bias
    bias.assign(np.asarray(bias) - np.quantile(logits, 1 - share))


def blobs(patch, share: float = 0.01, seed: int = 0) -> np.ndarray:
    """Smooth random logits of which this share is above 0: some dozen regions of all sizes.

    Returns
    -------
    (*patch) float32 ndarray
    """
    from scipy import ndimage

    noise = np.random.default_rng([seed, 75]).normal(size=patch)
    smooth = ndimage.gaussian_filter(noise, 2.0)
    return (8.0 * (smooth - np.quantile(smooth, 1 - share)) / smooth.std()).astype(np.float32)


def _alternate(
    works: Mapping[str, Callable[[], Any]], calls: int, repeat: int
) -> dict[str, Spread]:
    """Seconds of one call of each, every sample a mean over ``calls``."""

    def mean_seconds(work: Callable[[], Any]) -> float:
        return seconds(lambda: [work() for _ in range(calls)]) / calls

    for work in works.values():
        work()
    return alternate({name: partial(mean_seconds, work) for name, work in works.items()}, repeat)


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["losses", *sys.argv[1:]])
