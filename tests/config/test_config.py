"""Configurations: read, overridden, described, refused with every problem at once."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from segpipe.config import (
    Config,
    OperatingPoint,
    RegionConfig,
    data_config,
    describe,
    digest,
    dump,
    load,
    parse,
    schema,
    training,
)
from segpipe.config.fields import Section
from segpipe.config.rules import parse_rule
from segpipe.errors import ConfigError

SMALL = {"name": "x", "data": {"root": "scans"}}
SECTIONS = [
    model
    for model in (*vars(schema).values(), *vars(training).values())
    if isinstance(model, type) and issubclass(model, BaseModel) and model is not BaseModel
]


@pytest.fixture
def write(tmp_path):
    def _write(text):
        path = tmp_path / "c.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def problems(values):
    with pytest.raises(ConfigError) as caught:
        parse(values, "here")
    return str(caught.value).splitlines()


def test_what_is_not_given_has_its_default(write):
    config = load(write("name: x\ndata: {root: scans}\ntrain: {epochs: 7}"))
    assert (config.train.epochs, config.train.batch, config.backend) == (7, 4, "tensorflow")
    assert config == parse({**SMALL, "train": {"epochs": 7}})


def test_overrides_are_yaml_by_dotted_name_and_the_last_wins(write):
    path = write("name: x\ndata: {root: a}\ntrain:\n")
    config = load(
        path,
        [
            "train.epochs=5",
            "train.epochs=6",
            "train.learning_rate=1e-5",
            "data.root=/d/a=b",
            "augment.mirror_axes=[A]",
            "loss.voxel_count.weight=0",
            "data.labels.lesion=3",
            "train.deterministic=null",
        ],
    )
    assert config.train.epochs == 6
    assert config.train.learning_rate == 1e-5
    assert str(config.data.root) == "/d/a=b"
    assert config.augment.mirror_axes == ("A",)
    assert config.loss.voxel_count.weight == 0
    assert config.data.labels == {"lesion": 3}
    assert config.train.deterministic is None


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("epochs", r"expected key\.path=value; received 'epochs'"),
        ("=5", r"expected key\.path=value; received '=5'"),
        ("name.first=5", "override name.first: name is a value, not a section"),
        ("train.epochs=[1", "override train.epochs: expected a YAML value; received '\\[1'"),
        ("train.epochs=2020-13-45", "override train.epochs: expected a YAML value"),
        ("train.epoch=5", "train.epoch: unknown name.*Did you mean epochs?"),
    ],
)
def test_overrides_that_cannot_be_read_are_named(write, override, said):
    with pytest.raises(ConfigError, match=said):
        load(write("name: x\ndata: {root: a}"), [override])


def test_how_a_dataset_is_read_takes_settings_of_data_and_no_others():
    read = data_config("scans", ["data.ignore_label=9", "data.labels.lesion=3"])
    assert (str(read.root), read.ignore_label, read.labels) == ("scans", 9, {"lesion": 3})
    foreign = ["data.ignore_label=9", "train.epochs=5", "model.deep_supervision=true", "name=x"]
    with pytest.raises(
        ConfigError, match=r"section data.*received train\.epochs=5, model"
    ) as error:
        data_config("scans", foreign)
    assert "name=x" in str(error.value)
    assert "data.ignore_label=9, train" not in str(error.value)
    with pytest.raises(ConfigError, match=r"data\.ignore: unknown name"):
        data_config("scans", ["data.ignore=9"])
    assert str(data_config("scans", ["data.root=scans"]).root) == "scans"
    with pytest.raises(ConfigError, match=r"data\.root: expected none, .* scans; received others"):
        data_config("scans", ["data.root=others"])


def test_merged_keys_are_no_repeated_ones(write):
    region = "{name: a, source: mask, file: f, weight: 2.0}"
    merged = "[&b {<<: &a REGION, name: b}, *a, {<<: *b, name: c}]".replace("REGION", region)
    config = load(write("name: x\ndata: {root: d}\nanatomy:\n  regions: " + merged))
    assert [(one.name, one.weight) for one in config.anatomy.regions] == [
        ("b", 2.0),
        ("a", 2.0),
        ("c", 2.0),
    ]
    with pytest.raises(ConfigError, match="expected YAML; received weight twice"):
        load(write("name: x\ndata: {root: d}\nanatomy: {regions: [&a {weight: 1, weight: 2}]}"))
    with pytest.raises(ConfigError, match="override train: expected a YAML value"):
        load(write("name: x\ndata: {root: d}"), ["train={epochs: 3, epochs: 5}"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a mapping; received NoneType"),
        ("- a", "expected a mapping; received list"),
        ("a: [1", "expected YAML"),
        ("a: \x00", "expected YAML"),
        ("name: 2020-13-45", "expected YAML; received month must be in 1..12"),
        ("[" * 3000, "expected YAML"),
        ("1: 2\nname: x\ndata: {root: a}", "1: keys should be strings"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(write, text, said):
    path = write(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(ConfigError, match="expected a readable YAML file"):
            load(path)


def test_every_problem_is_reported_at_once_with_place_expected_received_and_help():
    lines = problems(
        {
            "name": "a b",
            "modle": {},
            "train": {"epochs": 0, "learning_rat": 1, "batch": "many"},
            "evaluate": {"connectivity": 7},
            "anatomy": {"regions": [{"name": "a", "source": "mask", "fil": "b"}]},
            "data": {"root": "a", "zzz": 1},
        }
    )
    assert all(line.startswith("here: ") for line in lines)
    found = {line.split(": ")[1]: line for line in lines}
    assert set(found) == {
        "name",
        "modle",
        "train.epochs",
        "train.learning_rat",
        "train.batch",
        "evaluate.connectivity",
        "anatomy.regions.0.fil",
        "anatomy.regions.0.file",
        "data.zzz",
    }
    assert found["train.epochs"].endswith("input should be greater than 0; received 0")
    assert found["train.batch"].endswith("received many")
    assert "6, 18 or 26; received 7" in found["evaluate.connectivity"]
    assert found["modle"].endswith("Did you mean model?")
    assert found["train.learning_rat"].endswith("Did you mean learning_rate?")
    assert found["anatomy.regions.0.fil"].endswith("Did you mean file?")
    assert "Known: root, layout, channels" in found["data.zzz"]


def test_settings_that_disagree_are_reported_at_once_and_beside_other_problems():
    assert problems(
        {
            "name": "a b",
            "data": {"root": "a"},
            "model": {"dimensions": 2, "features": [4, 8, 16], "strides": [[2, 2]]},
            "loss": {"bce": 0, "dice": 0, "ramp_start": 0.5, "ramp_end": 0.4},
            "train": {"steps": 5, "budget": "1h"},
            "augment": {"mirror_axes": ["R"]},
            "predict": {"mirror_axes": ["A", "R"]},
            "evaluate": {"certify": {"alpha": 2}},
        }
    ) == [
        "here: name: string should match pattern '^[A-Za-z0-9_-]{1,64}$'; received a b",
        "here: model.strides: expected 2 entries of 2 numbers, one per level after the first; "
        "received [[2, 2]]",
        "here: loss.dice: expected above 0, or loss.bce above 0: nothing else finds lesions; "
        "received 0",
        "here: loss.ramp_end: expected a value not below loss.ramp_start; received 0.4",
        "here: train.budget: expected null beside steps, which says the length already; "
        "received 1h",
        "here: predict.mirror_axes: expected axes that training mirrors along, ['R'] of "
        "augment.mirror_axes; received ['A', 'R']",
        "here: evaluate.certify.alpha: expected below 1, the largest risk there is; received 2.0",
    ]


def test_all_overrides_that_cannot_be_applied_are_reported_with_the_other_problems(write):
    path = write("name: x\ndata: {root: a}\ntrain: {epochs: 0}")
    with pytest.raises(ConfigError) as caught:
        load(path, ["train.epochs", "name.a=1", "train.batch=3", "train.steps=[1"])
    assert str(caught.value).splitlines() == [
        "override: expected key.path=value; received 'train.epochs'. Write for instance "
        "train.epochs=5.",
        "override name.a: name is a value, not a section",
        "override train.steps: expected a YAML value; received '[1'",
        f"{path}: train.epochs: input should be greater than 0; received 0",
    ]


def test_missing_values_are_said_to_be_missing():
    assert problems({"name": "x"}) == [
        "here: data: missing; expected a value; received nothing. Add it."
    ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"train": {"patch": [8, 8]}}, "train.patch: expected 3 numbers"),
        ({"model": {"dimensions": 2}}, "train.patch: expected 2 numbers"),
        ({"model": {"strides": [[2, 2, 2]]}}, "model.strides: expected 3 entries of 3 numbers"),
        ({"model": {"features": [4, 8], "strides": [[0, 2, 2]]}}, "greater than 0; received 0"),
        ({"train": {"patch": [8, -8, 8]}}, "greater than 0; received -8"),
        (
            {
                "model": {"features": [4, 8, 16], "strides": [[2, 2, 2], [5, 2, 1]]},
                "train": {"patch": [48, 48, 48]},
            },
            r"train.patch: expected multiples of \[10, 4, 2\].*received \(48, 48, 48\)",
        ),
        ({"loss": {"ramp_start": 0.5, "ramp_end": 0.4}}, "loss.ramp_end: expected a value not"),
        ({"loss": {"bce": 0, "dice": 0}}, "loss.dice: expected above 0"),
        (
            {"loss": {"ramp_start": 0.5}},
            "loss.ramp_end: .* not below loss.ramp_start; received 0.4",
        ),
        ({"augment": {"scale_range": [2, 1]}}, r"augment.scale_range: .*received \[2, 1\]"),
        ({"train": {"learning_rate": math.inf}}, "finite number"),
        ({"train": {"clip_norm": math.nan}}, "finite number|greater than or equal"),
        ({"predict": {"operating_point": {"threshold": 1.0}}}, "less than 1; received 1.0"),
        *(
            ({"anatomy": {"regions": [{"name": "a", "source": source}]}}, f"{source} needs 'file'")
            for source in ("mask", "labels", "template")
        ),
        (
            {"anatomy": {"regions": [{"name": "a", "source": "labels", "file": "f"}]}},
            "needs 'ids'",
        ),
        (
            {"anatomy": {"regions": [{"name": "a", "source": "complement"}] * 2}},
            r"anatomy\.regions\.1\.name: region names must differ; received a",
        ),
        (
            {"anatomy": {"regions": [{"name": "none", "source": "complement"}]}},
            r"regions\.0\.name: expected a region name other than that of no region; received none",
        ),
        ({"name": "../x"}, "string should match pattern"),
    ],
)
def test_values_that_cannot_go_together_are_refused(section, said):
    with pytest.raises(ConfigError, match=said):
        parse({**SMALL, **section})


@pytest.mark.parametrize(
    "rule", ["any", "iou:0.5", "iou:.5", "overlap:0.001", "overlap:1", "iou:1.0"]
)
def test_rules_that_are_accepted_can_be_used(rule):
    assert parse({**SMALL, "evaluate": {"rule": rule}}).evaluate.rule == rule
    parse_rule(rule)


@pytest.mark.parametrize(
    "setting",
    ["augment.elastic=true", "loss.region_count.weight=on", "split.folds=yes", "train.epochs=yes",
     "train.patch=[8, yes, 8]", "data.labels={lesion: true}", "evaluate.min_sizes_mm3=[no]",
     "predict.operating_point.min_size_mm3=yes"],
)  # fmt: skip
def test_yes_is_no_number(write, setting):
    with pytest.raises(ConfigError, match=r"expected no true or false.*; received .*(True|False)"):
        load(write("name: x\ndata: {root: d}"), [setting])


def test_yes_is_an_answer_where_one_is_asked_for(write):
    config = load(
        write("name: x\ndata: {root: d}"),
        ["augment.enabled=no", "data.repair_nan=yes", "train.learning_rate=1e-3"],
    )
    assert (config.augment.enabled, config.data.repair_nan) == (False, True)
    assert config.train.learning_rate == 0.001


def test_what_may_hold_anything_may_hold_yes():
    class Facts(Section):
        told: dict[str, Any] | None = None
        counts: dict[str, int] = Field({})

    assert Facts(told={"adopted": True, "deep": [{"x": False}]}).told["adopted"] is True
    with pytest.raises(ValidationError, match="expected no true or false"):
        Facts(counts={"a": True})


def test_background_cannot_be_ignored(write):
    with pytest.raises(ConfigError, match=r"data\.ignore_label: .*greater than 0; received 0"):
        load(write("name: x\ndata: {root: d}"), ["data.ignore_label=0"])


@pytest.mark.parametrize("rule", ["iou", "iou:0", "iou:0.0", "iou:1.", "iou:1.5", "iou:-1", "ANY"])
def test_rules_that_could_not_be_used_are_refused(rule):
    with pytest.raises(ConfigError, match=r"evaluate\.rule"):
        parse({**SMALL, "evaluate": {"rule": rule}})


rich = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
        "data": st.fixed_dictionaries(
            {
                "root": st.sampled_from(["a", "/b c/d", "é#: x", "null", "1"]),
                "labels": st.none()
                | st.dictionaries(st.sampled_from(["no", "l: #", "Ü", "1"]), st.integers(1, 9)),
            }
        ),
        "scheduler": st.none() | st.sampled_from(["tcp://127.0.0.1:1", "yes"]),
        "prepare": st.fixed_dictionaries(
            {"spacing_mm": st.none() | st.tuples(*[st.floats(1e-7, 1e7)] * 3)}
        ),
        "train": st.fixed_dictionaries(
            {"learning_rate": st.floats(1e-30, 1e30), "deterministic": st.none() | st.booleans()}
        ),
        "anatomy": st.just(
            {"regions": [{"name": "on", "source": "labels", "file": "{case}: #", "ids": [1, 2]}]}
        ),
    }
)


def as_yaml(config):
    lines = []
    for depth, name, value, meaning in describe(config):
        lines.append(f"{'  ' * depth}{name}:" + (f" {value}" if value else "") + f"  # {meaning}")
    return "\n".join(lines)


@settings(max_examples=25, deadline=None)
@given(rich)
def test_dumped_and_described_configurations_are_the_same_configuration(values):
    config = parse(values)
    again = parse(yaml.safe_load(dump(config)))
    assert again == config
    assert digest(again) == digest(config)
    assert parse(yaml.safe_load(as_yaml(config))) == config


def test_items_of_a_list_are_described_field_by_field():
    regions = [
        {"name": "a", "source": "mask", "file": "a: #.nii", "weight": 2.5, "margin_mm": 3},
        {"name": "b", "source": "complement", "floor": 0.25},
    ]
    config = parse({**SMALL, "anatomy": {"regions": regions, "registration": {"image": "i"}}})
    assert parse(yaml.safe_load(as_yaml(config))) == config
    rows = list(describe(config))
    meanings = {name: field.description for name, field in RegionConfig.model_fields.items()}
    start = [name for _, name, _, _ in rows].index("regions") + 1
    described = rows[start : start + 2 * len(meanings)]
    names = [name.removeprefix("- ") for _, name, _, _ in described]
    assert names == 2 * list(meanings)
    assert [meaning for *_, meaning in described] == [meanings[name] for name in names]
    assert described[1] == (3, "weight", "2.5", "of the penalty on false positives inside")
    assert described[len(meanings)][:3] == (2, "- name", '"b"')


def test_every_field_is_described_once_in_order_and_means_something():
    rows = list(describe(parse(SMALL)))
    assert [name for depth, name, _, _ in rows if depth == 0] == list(Config.model_fields)
    assert all(meaning for _, _, _, meaning in rows)
    assert (1, "threshold", "0.5", "probability from which a voxel counts") not in rows
    assert (2, "threshold", "0.5", "probability from which a voxel counts") in rows
    undescribed = [
        f"{model.__name__}.{name}"
        for model in SECTIONS
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert undescribed == []
    assert len(SECTIONS) >= 16


def test_the_digest_follows_values_and_not_their_order():
    a = parse({"name": "x", "data": {"root": "a", "labels": {"p": 1, "q": 2}}})
    b = parse({"data": {"labels": {"q": 2, "p": 1}, "root": "a"}, "name": "x"})
    assert digest(a) == digest(b)
    assert digest(OperatingPoint()) != digest(OperatingPoint(threshold=0.25))
    assert digest(a) != digest(parse({"name": "y", "data": {"root": "a"}}))


def test_configurations_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        parse(SMALL).train.epochs = 5


@pytest.mark.parametrize(
    ("train", "chooses"),
    [
        ({}, False),
        ({"keep": "best"}, True),
        ({"patience": 2}, True),
        ({"keep": "best", "validate_every": 0}, False),
        ({"keep": "best", "validate_every": 20}, False),  # of 20 epochs: the last alone
        ({"keep": "best", "validate_every": 20, "budget": "1h"}, True),
        ({"keep": "best", "validate_every": 2, "steps": 101}, True),  # 50 a time: three epochs
        ({"keep": "best", "validate_every": 3, "steps": 101}, False),
    ],
)
def test_weights_are_chosen_where_there_are_validations_to_choose_by(train, chooses):
    assert parse({**SMALL, "train": train}).train.chooses_weights is chooses
