"""``segpipe plan``: a complete configuration from the data, each choice with its reason."""

from __future__ import annotations

import json
import re
from pathlib import Path

from segpipe.backend import auto_precision, has_gpu
from segpipe.backend.processor import cores, gpu_memory_mb, memory_mb
from segpipe.config import Config, DataConfig, describe, parse
from segpipe.data.layouts import open_dataset
from segpipe.errors import ConfigError, DataError
from segpipe.files import write_text
from segpipe.observer import Observer
from segpipe.planning import Choice, Machine, make_choices
from segpipe.prepare import measure_grids


def run_plan(
    data: DataConfig, output: Path | None, observer: Observer, budget: str | None = None
) -> str:
    """Plan a configuration and write it, if a place is given.

    Parameters
    ----------
    data : DataConfig
    output : Path or None
    observer : Observer
    budget : str, optional
        For ``train.budget``.

    Returns
    -------
    str
        YAML; reasons and meanings are comments.

    Raises
    ------
    DataError
        If there is nothing to plan from.
    ConfigError
        If the output exists, or the budget is no length of time.
    """
    if output is not None and output.exists():
        raise ConfigError(f"{output}: exists already. Remove it, or choose another name.")
    dataset = open_dataset(data)
    if not dataset.cases:
        raise DataError(data.root, "no training case", fix="Check the folder and its layout.")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", data.root.resolve().stem).strip("-")
    name = name[:64] or "experiment"
    stated = data.model_dump(mode="json", exclude_unset=True)
    first = parse(
        {
            "name": name,
            "data": {**stated, "layout": dataset.layout},
            "train": {"budget": budget},
        }
    )
    grids = measure_grids(dataset.cases, first)
    patients = len({case.patient for case in dataset.cases})
    choices = make_choices(dataset, grids, machine=_machine(first.backend), patients=patients)
    if budget is not None:
        choices.append(Choice("train.budget", budget, "as asked; takes the place of epochs"))
    text = render(first, choices)
    if output is not None:
        write_text(output, text)
        observer.message(f"planned {len(dataset.cases)} cases: {output}")
    return text


def _machine(backend: str) -> Machine:
    gpu = has_gpu(backend)
    precision = auto_precision(backend, "gpu" if gpu else "cpu")
    return Machine(gpu, cores(), memory_mb(), gpu_memory_mb() if gpu else None, precision)


def render(config: Config, choices: list[Choice]) -> str:
    """The configuration with the choices in place, as commented YAML."""
    values = config.model_dump(mode="json")
    for choice in choices:
        section, key = choice.key.split(".")
        values[section][key] = choice.value
    planned = parse(json.loads(json.dumps(values)), "plan")
    reasons = {choice.key: choice.reason for choice in choices}
    lines = ["# Planned from the data; lines marked 'chosen' say why.", ""]
    section = ""
    for depth, name, value, meaning in describe(planned):
        if depth == 0:
            section = name
        reason = reasons.get(f"{section}.{name}") if depth == 1 else None
        comment = f"chosen: {' '.join(reason.split())}" if reason else meaning
        line = f"{'  ' * depth}{name}:" + (f" {value}" if value else "")
        lines.append(f"{line:<44}  # {comment}")
    return "\n".join(lines) + "\n"
