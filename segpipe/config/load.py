"""Reading a configuration: YAML plus overrides in, a validated :class:`Config` out."""

from __future__ import annotations

import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from segpipe.config.schema import Config, DataConfig
from segpipe.errors import ConfigError

_MERGE = "tag:yaml.org,2002:merge"
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)  # 2020-13-45 looks like a date


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a configuration.

    Parameters
    ----------
    path : str or Path
        A YAML file.
    overrides : sequence of str
        ``key.path=value``; values are read as YAML.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        With every problem at once: file, dotted path, expected, received, nearest known name.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: expected a readable YAML file; received {error}. "
            "Give the path of a configuration, such as configs/samples.yaml."
        ) from error
    try:
        values = yaml.load(text, _UniqueKeys)
    except _NOT_YAML as error:
        raise ConfigError(f"{path}: expected YAML; received {_one_line(error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping; received {type(values).__name__}")
    return _parse(values, overrides, str(path))


def parse(values: dict[str, Any], where: str = "configuration") -> Config:
    """Validate a nested mapping; raises :class:`ConfigError` as :func:`load` does."""
    return _parse(values, (), where)


def _parse(values: dict[str, Any], overrides: Sequence[str], where: str) -> Config:
    problems = _apply(values, overrides)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += [f"{where}: {_explain(problem)}" for problem in error.errors()]
        raise ConfigError("\n".join(problems)) from error
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def data_config(root: str | Path, overrides: Sequence[str] = ()) -> DataConfig:
    """How a dataset is read that has no configuration yet.

    Parameters
    ----------
    root : str or Path
    overrides : sequence of str
        As in :func:`load`, of the section ``data`` only.

    Raises
    ------
    ConfigError
    """
    foreign = [text for text in overrides if text.partition("=")[0].split(".")[0] != "data"]
    if foreign:
        raise ConfigError(
            "overrides: expected settings of the section data, such as data.ignore_label=9; "
            f"received {', '.join(foreign)}. Leave out what does not tell how scans are read."
        )
    return DataConfig.model_validate(stated(root, overrides)["data"])


def stated(root: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    """What overrides say of a dataset that has no configuration yet.

    Parameters
    ----------
    root : str or Path
        Of the dataset.
    overrides : sequence of str
        As in :func:`load`.

    Returns
    -------
    dict
        Nested as in a file; ``data.root`` and what is stated, each valid by itself. Whether the
        sections agree shows only in a complete configuration.

    Raises
    ------
    ConfigError
    """
    values: dict[str, Any] = {"data": {"root": str(root)}}
    problems = _apply(values, overrides)
    data = values["data"]
    if isinstance(data, dict) and data.get("root", str(root)) != str(root):
        problems.append(
            f"override data.root: expected none, as the dataset is given, {root}; received "
            f"{data['root']}. Leave one of them out."
        )
    try:
        Config.model_validate({"name": "dataset", **values})
    except ValidationError as error:
        problems += [
            f"overrides: {_explain(one)}"
            for one in error.errors()
            if one["type"] != "disagreement" or len(one["loc"]) > 1  # between two sections
        ]
    if problems:
        raise ConfigError("\n".join(problems))
    return values


def override(config: Config, overrides: Sequence[str]) -> Config:
    """A configuration with other values; ``overrides`` and errors as in :func:`load`."""
    if not overrides:
        return config
    return _parse(config.model_dump(mode="json"), overrides, "overrides")


def dump(config: Config) -> str:
    """The complete configuration as YAML; ``parse(yaml.safe_load(dump(c))) == c``."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def digest(model: BaseModel) -> str:
    """SHA-256 of a model's values, independent of the order of keys."""
    return digest_values(model.model_dump(mode="json"))


def digest_values(values: Any) -> str:
    """The same of values as JSON holds them, whether or not this version knows all of them."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def flat_values(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values as JSON holds them, by dotted name; lists stay whole.

    Examples
    --------
    >>> flat_values({"train": {"batch": 2, "patch": [8, 8, 8]}, "name": "x"})
    {'train.batch': 2, 'train.patch': [8, 8, 8], 'name': 'x'}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flat_values(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def describe(config: Config) -> Iterator[tuple[int, str, str, str]]:
    """Depth, name, value and meaning of every field, in order, for ``segpipe config``.

    The first field of an item of a list has a name that begins with ``- ``.
    """
    yield from _describe(config, 0)


def _describe(model: BaseModel, depth: int) -> Iterator[tuple[int, str, str, str]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        meaning = field.description or ""
        if isinstance(value, BaseModel):
            yield depth, name, "", meaning
            yield from _describe(value, depth + 1)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield depth, name, "", meaning
            for item in value:
                (_, first, shown, told), *others = _describe(item, depth + 2)
                yield depth + 1, f"- {first}", shown, told
                yield from others
        else:
            plain = model.model_dump(mode="json", include={name})[name]
            yield depth, name, json.dumps(plain, ensure_ascii=False), meaning


class _UniqueKeys(yaml.SafeLoader):
    """A loader to which a key that occurs twice is an error, not an overwrite."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # as written: merges (<<) come later
        named = [key for key, _ in node.value if key.tag != _MERGE]
        keys = [self.construct_object(key, deep=True) for key in named]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key} twice, at line {node.start_mark.line + 1} and on")
        return node


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _apply(values: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Write overrides into nested values; the problems of those that cannot be."""
    problems = []
    for text in overrides:
        try:
            _apply_override(values, text)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, found, text = override.partition("=")
    if not found or not key:
        raise ConfigError(
            f"override: expected key.path=value; received {override!r}. "
            "Write for instance train.epochs=5."
        )
    try:
        value = yaml.load(text, _UniqueKeys)
    except _NOT_YAML as error:
        raise ConfigError(f"override {key}: expected a YAML value; received {text!r}") from error
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise ConfigError(f"override {key}: {parent} is a value, not a section")
    node[last] = value


def _explain(problem: Any) -> str:
    location, received = list(problem["loc"]), problem["input"]
    if problem["type"] == "disagreement":
        location.append(problem["ctx"]["path"])
        received = problem["ctx"]["received"]
    dotted = ".".join(str(part) for part in location) or "(file)"
    if problem["type"] == "extra_forbidden":
        known = _known_names(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
        return f"{dotted}: unknown name; expected a known one; received {location[-1]}. {hint}"
    if problem["type"] == "missing":
        return f"{dotted}: missing; expected a value; received nothing. Add it."
    expected = problem["msg"].removeprefix("Value error, ")
    return f"{dotted}: {expected[0].lower()}{expected[1:]}; received {_short(received)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known_names(location: Sequence[Any]) -> list[str]:
    model: type[BaseModel] | None = Config
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model else None
        model = _model_of(field) if field else None
    return list(model.model_fields) if model else []


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    candidates = [field.annotation]
    while candidates:
        candidate = candidates.pop()
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
        if typing.get_origin(candidate) in (tuple, list, typing.Union, types.UnionType):
            candidates.extend(typing.get_args(candidate))
    return None
