"""The same HTML as PDF, by WeasyPrint when it and Pango are there."""

from __future__ import annotations

import logging
from typing import Any

from segpipe.errors import SegpipeError

INSTALL = (
    "PDF needs WeasyPrint and Pango. Install them with: pip install 'segpipe[pdf]', and on Debian "
    "or Ubuntu: apt-get install libpango-1.0-0 libpangoft2-1.0-0 (macOS: brew install pango)"
)

# The banner repeats as a table header (stylesheet); the margins add case and page.
_PAGE = """
@page {
  @bottom-left { content: string(case); font: 8pt sans-serif; color: #47545f; }
  @bottom-right { content: "Page " counter(page) " of " counter(pages);
                  font: 8pt sans-serif; color: #47545f; }
}
"""


def _weasyprint() -> Any:
    try:
        import weasyprint
    except (ImportError, OSError) as error:  # OSError: Pango's shared library is missing
        raise SegpipeError(f"{INSTALL} ({str(error).splitlines()[0]})") from error
    return weasyprint


def available() -> str | None:
    """None when PDFs can be written, else what to install, in one line."""
    try:
        _weasyprint()
    except SegpipeError as error:
        return str(error)
    return None


def to_pdf(html: str) -> bytes:
    """A report as PDF, with the banner on every page.

    Parameters
    ----------
    html : str
        A self-contained page; anything but a ``data:`` address is refused.

    Returns
    -------
    bytes

    Raises
    ------
    SegpipeError
        If WeasyPrint or Pango is missing, with what to install; if something is not inlined.
    """
    weasyprint = _weasyprint()
    logging.getLogger("weasyprint").setLevel(logging.ERROR)

    fetcher = weasyprint.urls.URLFetcher(allowed_protocols={"data"}, fail_on_errors=True)
    document = weasyprint.HTML(string=html, url_fetcher=fetcher)
    page = weasyprint.CSS(string=_PAGE)
    try:
        return bytes(document.write_pdf(stylesheets=[page]))
    except weasyprint.urls.FatalURLFetchingError as error:  # not an Exception
        raise SegpipeError(
            f"a report must be self-contained; refused to fetch what is not inlined: {error}"
        ) from error
