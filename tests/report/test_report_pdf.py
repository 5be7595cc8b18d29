import importlib.util
import shutil
import subprocess
import sys

import pytest

from segpipe.errors import SegpipeError
from segpipe.report import pdf
from segpipe.report.patient import patient_report


def test_without_weasyprint_one_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(SegpipeError, match=r"pip install 'segpipe\[pdf\]'.*libpango-1\.0-0"):
        pdf.to_pdf("<p>")
    message = pdf.available()
    assert message is not None
    assert "\n" not in message


@pytest.mark.skipif(
    importlib.util.find_spec("weasyprint") is None or pdf.available() is not None,
    reason="WeasyPrint or Pango is missing",
)
def test_every_page_of_the_pdf_carries_the_banner(many, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is missing")
    (tmp_path / "case.pdf").write_bytes(pdf.to_pdf(patient_report(many)))
    done = subprocess.run(
        ["pdftotext", "-layout", "case.pdf", "-"], cwd=tmp_path, capture_output=True, check=True
    )
    pages = done.stdout.decode().split("\f")[:-1]
    assert len(pages) > 2
    for number, page in enumerate(pages, start=1):
        assert page.count("Research use only. Not a medical device.") == 1
        assert f"Page {number} of {len(pages)}" in page
        assert "case_01" in page
    words = "".join(pages)
    assert "150" in words
    assert "Show all" not in words


@pytest.mark.skipif(pdf.available() is not None, reason="WeasyPrint or Pango is missing")
@pytest.mark.parametrize("address", ["https://example.org/a.png", "file:///etc/hostname"])
def test_the_pdf_writer_fetches_nothing(address):
    with pytest.raises(SegpipeError, match="refused to fetch"):
        pdf.to_pdf(f"<img src='{address}'>")
