"""The model card: all headings, nothing invented."""

import re
from dataclasses import replace

import pytest

from segpipe.config import CardConfig
from segpipe.report.card import NOT_RECORDED, CardFacts, card_sections, model_card

SPACE = "\N{NO-BREAK SPACE}"

MITCHELL = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
]

VALIDATION = {
    "cases": 12,
    "patients": 10,
    "summary": {
        "lesion": {
            "false_positive_regions": {"mean": 2.5, "median": 2.0, "ci95": [1.0, 4.0]},
            "lesion_f1": {"mean": None, "median": None, "ci95": None},
        }
    },
    "by_size": [
        {
            "label": "lesion",
            "low_mm3": 0.0,
            "high_mm3": 30.0,
            "lesions": 10,
            "detected": 8,
            "sensitivity_ci95": [0.2, 0.9],
        },
        {"label": "other", "low_mm3": 0.0, "high_mm3": 99.0, "lesions": 1, "detected": 1},
    ],
    "by_region": [
        {
            "label": "lesion",
            "region": "white_matter",
            "false_positive_regions": {"mean": 1.5, "ci95": None},
            "missed_lesions": {"mean": 0.25},
        }
    ],
}


@pytest.fixture
def facts():
    return CardFacts(
        name="ms-fold0",
        written=CardConfig(intended_use="Research on <b>MS</b>."),
        model=[("Network", "3-D plain U-Net")],
        training=[("Loss", "Dice")],
        data=[("SHA-256", "ab" * 32)],
        preparation=[("Intensities", "zscore")],
        partitions=[("Level at which they are disjoint", "patient")],
        evaluation=[("Cases", "12")],
        metrics=["Rule any.", "Intervals by bootstrap."],
        factors=["lesion size"],
        certificate="None was asked for.",
        failures=["5 of 6 lesions were missed."],
        robustness=[],
        caveats=["Other scanners were not tested."],
    )


def text(html):
    body = re.sub(r"(?s)<style>.*?</style>|<title>.*?</title>", "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace(SPACE, " ")


def test_headings_are_those_of_mitchell_and_claim(facts):
    sections = card_sections(facts)
    assert [section.heading for section in sections] == MITCHELL
    entries = {entry.heading for section in sections for entry in section.entries}
    assert {
        "Reference standard",
        "Data partitions",
        "Data preprocessing",
        "De-identification",
        "Robustness and sensitivity analysis",
        "Failure analysis",
    } <= entries


def test_what_is_not_known_is_said_and_what_is_known_is_printed(facts):
    words = text(model_card(facts, VALIDATION, "2026-02-01"))
    assert "Primary intended uses Research on &lt;b&gt;MS&lt;/b&gt;." in words
    for heading in ("Reference standard", "Population", "De-identification", "Licence"):
        assert f"{heading} {NOT_RECORDED}" in words
    assert f"Robustness and sensitivity analysis {NOT_RECORDED}" in words
    assert "Failure analysis 5 of 6 lesions were missed." in words
    assert "Out of scope Research use only. Not a medical device." in words
    assert "12 scored scans of 10 patients that were not trained on." in words
    assert "False-positive regions per scan 2.50 1.00 to 4.00 2.00" in words
    assert "Lesion F1 not computed not computed not computed" in words
    assert "0 to 30 mm³ 8 of 10 80 % (20 to 94)" in words
    assert (
        "95 % interval: the wider of Wilson’s over lesions and the bootstrap over patients" in words
    )
    assert "99 mm³" not in words  # another label's
    assert "white matter 1.50 not computed 0.25" in words


def test_written_sentences_take_the_place_of_not_recorded(facts):
    written = {name: f"About {name}." for name in CardConfig.model_fields}
    told = replace(facts, written=CardConfig(**written), robustness=["Stable."])
    words = text(model_card(told, VALIDATION, "2026-02-01"))
    assert all(sentence in words for sentence in written.values())
    assert words.count(NOT_RECORDED) == 1  # the explanation of the words


def test_without_validation_no_figure_is_shown(facts):
    words = text(model_card(replace(facts, failures=[]), None, "2026-02-01"))
    assert "Performance Not measured: this bundle was not validated." in words
    assert f"Failure analysis {NOT_RECORDED}" in words
    assert "Mean" not in words


def test_structure_is_that_of_a_document(check_structure, facts):
    check_structure(model_card(facts, VALIDATION, "2026-02-01"))


@pytest.mark.browser
def test_opens_quietly_and_is_legible(check_in_browser, facts):
    check_in_browser(model_card(facts, VALIDATION, "2026-02-01"))
