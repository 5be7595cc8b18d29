"""segpipe's part, in a process of its own: what ``segpipe train`` and ``segpipe predict`` do.

.venv/bin/python -m benchmarks.accuracy.ours CONFIG KEY=VALUE … --fold K (--seconds S |
--iterations N) --cases CASE … --predictions DIR --report JSON
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy.meter import Meter
from segpipe.backend.processor import cpu_name
from segpipe.config import Config, TrainConfig, load
from segpipe.data.layouts import open_dataset
from segpipe.observer import Silent
from segpipe.pipeline.predict import PredictRequest, run_predict
from segpipe.pipeline.train import run_train

CALIBRATION_STEPS = 30
KNOWS_BUDGET = "budget" in TrainConfig.model_fields


class _EnoughError(Exception):
    """What was wanted of the training is done."""


class Watch(Silent):
    """Measures from the network's making to the last step, and ends the run at its bundle.

    Parameters
    ----------
    steps : int, optional
        End after so many steps instead.
    """

    def __init__(self, steps: int | None = None) -> None:
        self.steps = steps
        self.seconds: list[float] = []
        self.cost: dict[str, Any] = {}
        self.bundle: Path | None = None
        self._meter: Meter | None = None

    def params(self, values: Mapping[str, str | int | float | bool | None]) -> None:
        if "network.parameters" in values:
            self._meter = Meter()

    def progress(self, done: int, total: int, text: str = "") -> None:
        if self._meter is None or not text.startswith("epoch"):
            return
        self.seconds.append(self._meter.seconds)
        self.cost = self._meter.read() | {"iterations": done}
        if done % 50 == 0:
            print(f"{done} of {total} iterations, {self.seconds[-1]:.0f} s: {text}", flush=True)
        if self.steps is not None and done >= self.steps:
            raise _EnoughError

    def message(self, text: str) -> None:
        print(text, flush=True)
        if text.startswith("bundle in "):
            self.bundle = Path(text.removeprefix("bundle in "))
            raise _EnoughError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.ours")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--fold", type=int, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float)
    length.add_argument("--iterations", type=int)
    parser.add_argument("--cases", nargs="+", required=True, help="to predict")
    parser.add_argument("--predictions", type=Path, required=True, metavar="DIR")
    parser.add_argument("--probabilities", action="store_true")
    parser.add_argument("--report", type=Path, required=True, metavar="JSON")
    options = parser.parse_args()
    if options.iterations is not None:
        length_of_it = fixed_steps(options.iterations)
    elif KNOWS_BUDGET:
        length_of_it = [f"train.budget={options.seconds:.0f}s"]
    else:
        length_of_it = fixed_steps(calibrated_steps(options))
    config = load(options.config, [*options.overrides, *length_of_it])
    watch = train(config, options.fold, Watch())
    report = {
        **watch.cost,
        "batch": config.train.batch,
        "patch": list(config.train.patch),
        "arithmetic": config.train.precision,
        "overrides": [one for one in options.overrides if not one.startswith("output=")],
        "length": length_of_it,
    }
    assert watch.bundle is not None
    prediction = predict(config, options, watch.bundle)
    names = ("segpipe", "keras", "tensorflow", "openvino", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    found = {"training": report, "prediction": prediction, "versions": versions, "cpu": cpu_name()}
    options.report.write_text(json.dumps(found, indent=1))


def fixed_steps(steps: int) -> list[str]:
    """A training of so many steps."""
    return ["train.epochs=1", f"train.steps_per_epoch={steps}"]


def calibrated_steps(options: argparse.Namespace) -> int:
    """Steps that fit into the seconds, by a short run.

    What comes before the first step is taken off, and half of the short run is left out.
    """
    overrides = [*options.overrides, *fixed_steps(CALIBRATION_STEPS)]
    watch = train(load(options.config, overrides), options.fold, Watch(CALIBRATION_STEPS))
    return steps_within(options.seconds, watch.seconds)


def steps_within(budget_s: float, seconds: list[float]) -> int:
    """Whole steps within a budget, from the times at which the steps of a short run ended.

    Examples
    --------
    >>> steps_within(60, [20.0, 21.0, 21.5, 22.0, 22.5])
    80
    """
    later = seconds[len(seconds) // 2 :]
    step = (later[-1] - later[0]) / (len(later) - 1)
    return max(1, 1 + int((budget_s - seconds[0]) / step + 1e-9))


def train(config: Config, fold: int, watch: Watch) -> Watch:
    """What ``segpipe train`` does, up to the bundle."""
    try:
        run_train(config, fold, None, watch)
    except _EnoughError:
        return watch
    raise RuntimeError("training: expected the message of a bundle; it ended without one")


def predict(config: Config, options: argparse.Namespace, bundle: Path) -> dict[str, Any]:
    """What ``segpipe predict`` does."""
    cases = [case for case in open_dataset(config.data).cases if case.id in options.cases]
    scans = dict.fromkeys(channel.path for case in cases for channel in case.channels)
    meter = Meter()
    failed = run_predict(
        PredictRequest(
            bundles=(str(bundle),),
            scans=tuple(scans),
            output=options.predictions,
            probabilities=options.probabilities,
            overwrite=True,
        ),
        Silent(),
    )
    if failed:
        raise RuntimeError(f"prediction: expected every case; see {options.predictions}")
    return meter.read()


if __name__ == "__main__":
    main()
