"""``segpipe plan``: a complete configuration from the data, each choice with its reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from segpipe.backend import auto_precision, has_gpu
from segpipe.backend.processor import cores, gpu_memory_mb, memory_mb
from segpipe.config import Config, DataConfig, describe, parse, stated
from segpipe.data.layouts import open_dataset
from segpipe.data.splits import expect_training_cases
from segpipe.errors import ConfigError
from segpipe.files import write_text
from segpipe.observer import Observer
from segpipe.planning import Choice, Machine, make_choices
from segpipe.prepare import measure_grids


def run_plan(root: Path, overrides: Sequence[str], output: Path | None, observer: Observer) -> str:
    """Plan a configuration and write it, if a place is given.

    Parameters
    ----------
    root : Path
        Of the dataset.
    overrides : sequence of str
        As in ``config.load``: they stand in the plan, and what depends on them is chosen for them.
    output : Path or None
    observer : Observer

    Returns
    -------
    str
        YAML; reasons and meanings are comments.

    Raises
    ------
    DataError
        If there is nothing to plan from.
    ConfigError
        If the output exists, or an override is invalid or contradicts the rest of the plan.
    """
    if output is not None and output.exists():
        raise ConfigError(f"{output}: exists already. Remove it, or choose another name.")
    values = stated(root, overrides)
    data = DataConfig.model_validate(values["data"])
    dataset = open_dataset(data)
    expect_training_cases(dataset)
    named = dataset.name if data.root.is_file() else data.root.resolve().stem
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", named).strip("-")
    name = name[:64] or "experiment"
    first = parse({"name": name, "data": {**values["data"], "layout": dataset.layout}})
    asked = {key: value for key, value in _leaves(values, first) if key != "data.root"}
    grids = measure_grids(dataset.cases, first)
    patients = len({case.patient for case in dataset.cases})
    machine = _machine(asked)
    choices = make_choices(dataset, grids, machine=machine, patients=patients, asked=asked)
    text = render(first, choices)
    if output is not None:
        write_text(output, text)
        observer.message(f"planned {len(dataset.cases)} cases: {output}")
    return text


def _leaves(values: Mapping[str, Any], model: BaseModel, path: str = "") -> Iterator[Any]:
    """Dotted name and value of every setting among nested values."""
    for name, value in values.items():
        part = getattr(model, name)
        if isinstance(part, BaseModel) and isinstance(value, dict):
            typed = type(part).model_validate(value)
            stated_only = typed.model_dump(mode="json", exclude_unset=True)
            yield from _leaves(stated_only, part, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _machine(asked: Mapping[str, Any]) -> Machine:
    """Where training will run: this machine, as far as nothing else was asked for."""
    backend = asked.get("backend", "tensorflow")
    gpu = asked.get("train.device") != "cpu" and has_gpu(backend)
    precision = asked.get("train.precision", "auto")
    if precision == "auto":
        precision = auto_precision(backend, "gpu" if gpu else "cpu")
    return Machine(gpu, cores(), memory_mb(), gpu_memory_mb() if gpu else None, precision)


def render(config: Config, choices: list[Choice]) -> str:
    """The configuration with the choices in place, as commented YAML."""
    values = config.model_dump(mode="json")
    for choice in choices:
        *sections, key = choice.key.split(".")
        reduce(getitem, sections, values)[key] = choice.value
    planned = parse(json.loads(json.dumps(values)), "plan")
    reasons = {choice.key: choice.reason for choice in choices}
    lines = ["# Planned from the data; lines marked 'chosen' say why.", ""]
    path: list[str] = []
    for depth, name, value, meaning in describe(planned):
        path[depth:] = [name]
        reason = reasons.get(".".join(path))
        comment = f"chosen: {' '.join(reason.split())}" if reason else meaning
        line = f"{'  ' * depth}{name}:" + (f" {value}" if value else "")
        lines.append(f"{line:<44}  # {comment}")
    return "\n".join(lines) + "\n"
