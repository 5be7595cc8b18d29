"""What a bundle keeps of its validation."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segpipe.config import OperatingPoint, parse
from segpipe.data.layouts import Case, Dataset
from segpipe.errors import ConfigError
from segpipe.evaluate.operating_point import Choice
from segpipe.evaluate.score import score_labels, tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.summary import score_document
from segpipe.evaluate.table import THRESHOLDS, component_table
from segpipe.pipeline import evaluate
from segpipe.pipeline.evaluation import CHOSEN, SELECTED, Evaluation, expect_columns
from segpipe.pipeline.models import Loaded
from segpipe.pipeline.parts import Part
from segpipe.predict.case import Model
from segpipe.volume import Volume

LABELS = {"a": 1, "b": 2}
PATIENTS = {"one": "p", "two": "p", "three": "q"}


def scan(lesions, found):
    """Lesions of one voxel each, with their labels; those at the places ``found`` are certain."""
    reference = np.zeros((1, 1, 2 * len(lesions)), np.uint8)
    reference[0, 0, ::2] = lesions
    prediction = np.zeros((*reference.shape, len(LABELS)), np.float32)
    for place in found:
        prediction[0, 0, 2 * place, lesions[place] - 1] = 1
    return Volume(reference, np.eye(4)), Volume(prediction, np.eye(4))


def evaluation_of(pairs):
    settings = ScoreSettings(bootstrap=200)
    scores = [
        s for name, pair in pairs.items() for s in score_labels(name, *pair, LABELS, settings)
    ]
    document = score_document(
        settings, [s.row for s in scores], [s.detail for s in scores], PATIENTS
    )
    table = component_table(
        view
        for name, pair in pairs.items()
        for view in tabulate(name, *pair, LABELS, settings, THRESHOLDS)
    )
    choice = Choice(OperatingPoint(), {}, "fixed")
    return Evaluation(Path(), {**document, "patients": PATIENTS}, table, choice, {})


def test_sensitivity_is_pooled_over_labels_with_an_interval_over_patients():
    pairs = {
        "one": scan([1, 1, 2], [0, 1, 2]),
        "two": scan([2], [0]),
        "three": scan([1, 2, 2, 2], [0]),
    }
    evaluation = evaluation_of(pairs)
    facts = evaluation.validation_facts(parse({"name": "x", "data": {"root": "x"}}))
    known = facts["sensitivity"]
    assert (known["detected"], known["lesions"], known["value"]) == (5, 8, 5 / 8)
    assert known["ci95"] == pytest.approx([1 / 4, 1.0])  # patient q alone, patient p alone


def test_scores_are_grouped_by_columns_that_there_are():
    def case(name, **attributes):
        return Case(name, name, (), None, attributes)

    cases, tests = (case("a", site="x"), case("b")), (case("c", scanner="y"),)
    dataset = Dataset("d", Path("d"), "csv", ("flair",), {"lesion": 1}, cases, tests)

    def grouped(*columns):
        values = {"name": "x", "data": {"root": "x"}, "evaluate": {"by": columns}}
        expect_columns(dataset, parse(values))

    grouped()
    grouped("site", "scanner")
    with pytest.raises(ConfigError, match=r"evaluate\.by: .*\(site, scanner\); received sites\."):
        grouped("site", "sites")


def test_figures_are_optimistic_only_where_the_cases_had_a_say():
    config = parse({"name": "x", "data": {"root": "x"}})
    evaluation = evaluation_of({"one": scan([1, 2], [0]), "three": scan([1, 2], [1])})

    def told(**changes):
        return replace(evaluation, **changes).validation_facts(config)["optimistic"]

    chosen = replace(evaluation.choice, chosen=True)
    folds = {**evaluation.document, "folds": []}
    assert told() == []
    assert told(choice=chosen) == [CHOSEN]
    assert told(choice=chosen, document=folds) == []  # each at the point of the others
    assert told(choice=chosen, document=folds, selected=True) == [SELECTED]
    assert told(choice=chosen, selected=True) == [CHOSEN, SELECTED]


def test_networks_of_one_fold_are_in_memory_at_a_time(tmp_path, monkeypatch):
    engines = []

    def load(part):
        gc.collect()
        assert all(engine() is None for engine in engines)

        def engine(tiles):
            return tiles

        engines.append(weakref.ref(engine))
        return Loaded((tmp_path,), ("bundle",), (Model("bundle", engine, 0.5, 1),), None, "", None)

    class EnoughError(Exception):
        pass

    def chosen_on(predicted, config, obstacle):
        gc.collect()
        assert [engine() for engine in engines] == [None, None]
        raise EnoughError

    monkeypatch.setattr(evaluate, "predict_cases", lambda *rest, point: "predicted")
    monkeypatch.setattr(evaluate, "_chosen_on", chosen_on)
    config = parse({"name": "x", "output": str(tmp_path), "data": {"root": "x"}})
    task = SimpleNamespace(config=config, load=load, dataset=None, observer=None)
    with pytest.raises(EnoughError):
        evaluate._cross_validate([Part(f"{k}", (), (), choose=True) for k in (0, 1)], task)
    assert len(engines) == 2
