"""A case id from a stranger: refused where cases are named, inert wherever text is shown."""

import csv
import importlib.util
import io
import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from segpipe.config import DataConfig
from segpipe.data.layouts import find_scans, open_dataset
from segpipe.data.layouts.case import check_case_id
from segpipe.data.nifti import write_volume
from segpipe.errors import DataError
from segpipe.pipeline.score_output import score_csv, write_table
from segpipe.report import pdf
from segpipe.report.document import read_document
from segpipe.report.patient import PatientInputs, patient_report
from segpipe.tracking import Identifiers
from segpipe.volume import Volume

LONGEST = "Aa0_-" * 12 + "last"
FILE_NAMES = [
    "<script>alert(1)<",
    "a'b",
    'a"b',
    "a&b",
    "a b",
    "=1+1",
    "a" * 65,
    "c\u0430se",  # a Cyrillic letter that looks like a
    "case\uff11",  # a full-width digit
    "case\u200b",  # a space of no width
    "case\u202e1",  # turns what follows right to left
    "cas\u0065\u0301",  # an accent of its own
    "case\n",
]
ANYWHERE = [*FILE_NAMES, "", ".", "..", "a/b", "a\\b", "a\0"]


@pytest.mark.parametrize("case", ANYWHERE, ids=ascii)
def test_an_illegal_id_is_refused_and_shown_with_what_is_hidden_in_it(case):
    with pytest.raises(DataError, match="1 to 64 letters, digits, _ or -") as error:
        check_case_id(case, "dataset.json")
    assert "\n" not in str(error.value)


def test_the_longest_legal_id_is_taken():
    assert len(LONGEST) == 64
    assert check_case_id(LONGEST, "dataset.json") == LONGEST


@pytest.mark.parametrize("case", FILE_NAMES, ids=ascii)
def test_scans_with_such_names_are_refused(tmp_path, case):
    write_volume(tmp_path / "good.nii.gz", Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4)))
    (tmp_path / "good.nii.gz").rename(tmp_path / f"{case}_0000.nii.gz")
    with pytest.raises(DataError, match="a case id that cannot be used"):
        find_scans([tmp_path], ("image",))


@pytest.mark.parametrize("case", [c for c in ANYWHERE if c == c.strip()], ids=ascii)
def test_a_manifest_cannot_bring_them_in(tmp_path, case):
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    text = io.StringIO()
    csv.writer(text).writerows([["case", "FLAIR"], [case, "scan.nii.gz"]])
    (tmp_path / "cases.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    with pytest.raises(DataError):
        open_dataset(DataConfig(root=tmp_path / "cases.csv", labels={"lesion": 1}))


@pytest.mark.parametrize("case", ANYWHERE, ids=ascii)
def test_nor_can_a_predictions_folder(tmp_path, case):
    document = {
        "schema": 1,
        "segpipe": "0",
        "created": "2026-01-31",
        "bundle": {"name": "x"},
        "settings": {"threshold": 0.5, "min_size_mm3": 0},
        "cases": [{"case": case, "status": "failed"}],
    }
    (tmp_path / "predict.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match=r"cases\.0\.case"):
        read_document(tmp_path / "predict.json")


@pytest.mark.parametrize("case", [*ANYWHERE, LONGEST], ids=ascii)
def test_a_page_shows_it_as_text(case):
    html = patient_report(PatientInputs(case, "2026-01-31", "2026-02-01", error=f"{case}: gone"))
    assert "<script" not in html
    shown = html.split('<h1 class="case">')[1].split("</h1>")[0]
    assert not set(shown) & set("<>\"'")
    assert html.count("</title>") == 1


@pytest.mark.skipif(
    importlib.util.find_spec("weasyprint") is None
    or pdf.available() is not None
    or shutil.which("pdftotext") is None,
    reason="WeasyPrint, Pango or pdftotext is missing",
)
def test_a_pdf_shows_it_as_text(tmp_path):
    evil = "<script>alert(1)</script>"
    page = patient_report(PatientInputs(evil, "2026-01-31", "2026-02-01", error="Gone."))
    (tmp_path / "case.pdf").write_bytes(pdf.to_pdf(page))
    done = subprocess.run(
        ["pdftotext", tmp_path / "case.pdf", "-"], capture_output=True, check=True
    )
    assert evil in done.stdout.decode()


@pytest.mark.parametrize("case", ["=1+1", "+1", "@x", "\tx", 'a"b', "a,b", "a\nb", "<script>"])
def test_a_table_holds_it_as_text_that_no_spreadsheet_computes(tmp_path, case):
    row = {"case": case, "label": "lesion", "status": "failed", "error": f"{case}: gone"}
    write_table(tmp_path / "table.csv", pd.DataFrame([row]))
    written = (tmp_path / "table.csv").read_text(encoding="utf-8")
    for text in (score_csv({"rows": [row]}), written):
        (read,) = csv.DictReader(io.StringIO(text, newline=""))
        assert read["case"].removeprefix("'") == case
        assert read["error"].removeprefix("'") == f"{case}: gone"
        assert read["case"][0] not in "=+@\t\r"


@pytest.mark.parametrize("case", FILE_NAMES, ids=ascii)
def test_it_reaches_no_tag_of_a_failed_run(case):
    with pytest.raises(DataError) as error:
        check_case_id(case, "dataset.json")
    tag = Identifiers().one_line(error.value)
    assert case not in tag
    assert tag.isascii()
    assert tag.startswith("DataError: a case id that cannot be used")
