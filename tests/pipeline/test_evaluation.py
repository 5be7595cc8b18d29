"""What a bundle keeps of its validation."""

from pathlib import Path

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
from segpipe.pipeline.evaluation import Evaluation, expect_columns
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


def test_sensitivity_is_pooled_over_labels_with_an_interval_over_patients():
    pairs = {
        "one": scan([1, 1, 2], [0, 1, 2]),
        "two": scan([2], [0]),
        "three": scan([1, 2, 2, 2], [0]),
    }
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
    evaluation = Evaluation(Path(), {**document, "patients": PATIENTS}, table, choice, {})
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
