"""The synthetic reports of the documentation say what they are there to show."""

import pytest

from benchmarks.report_cases import LESIONS, report_page

SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("failed", "not computed", "the file holds less than its header claims"),
        ("many-lesions", "review", f"{LESIONS} lesions, "),
        ("thick-slices", "review", "mainly outside the named anatomy: check first."),
    ],
)
def test_each_case_shows_its_difficulty(tmp_path, name, status, words):
    html = report_page(name, tmp_path).read_text(encoding="utf-8").replace(SPACE, " ")
    assert f"Status: {status}</h2>" in html
    assert words in html
    assert ("viewer-canvas" in html) is (name != "failed")
