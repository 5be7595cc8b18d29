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

from benchmarks.accuracy.jobs import TELLING
from benchmarks.accuracy.meter import Meter
from segpipe.backend.processor import cpu_name
from segpipe.config import Config, load
from segpipe.data.layouts import open_dataset
from segpipe.observer import Silent
from segpipe.pipeline.predict import PredictRequest, run_predict
from segpipe.pipeline.train import run_train


class _EnoughError(Exception):
    """What was wanted of the training is done."""


class Watch(Silent):
    """Measures from the network's making to the last step, and ends the run at its bundle."""

    def __init__(self) -> None:
        self.cost: dict[str, Any] = {}
        self.bundle: Path | None = None
        self._meter: Meter | None = None

    def params(self, values: Mapping[str, str | int | float | bool | None]) -> None:
        if "network.parameters" in values:
            self._meter = Meter()

    def progress(self, done: int, total: int, text: str = "") -> None:
        if self._meter is None or not text.startswith("epoch"):
            return
        self.cost = self._meter.read() | {"iterations": done}
        if done % 50 == 0:
            print(f"{done} of {total} iterations, {self._meter.seconds:.0f} s: {text}", flush=True)

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
        until = f"train.steps={options.iterations}"
    else:
        until = f"train.budget={options.seconds:.0f}s"
    config = load(options.config, [*options.overrides, until])
    watch = train(config, options.fold, Watch())
    report = {
        **watch.cost,
        "batch": config.train.batch,
        "patch": list(config.train.patch),
        "arithmetic": config.train.precision,
        "overrides": [one for one in options.overrides if not one.startswith("output=")],
        "until": until,
        "config": config.model_dump(mode="json", include=TELLING),
    }
    assert watch.bundle is not None
    prediction = predict(config, options, watch.bundle)
    names = ("segpipe", "keras", "tensorflow", "openvino", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    found = {"training": report, "prediction": prediction, "versions": versions, "cpu": cpu_name()}
    options.report.write_text(json.dumps(found, indent=1))


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
            mirror=False,
            overwrite=True,
        ),
        Silent(),
    )
    if failed:
        raise RuntimeError(f"prediction: expected every case; see {options.predictions}")
    return meter.read()


if __name__ == "__main__":
    main()
