"""From a template to one self-contained HTML page that may not reach the network."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from segpipe.report import wording

BANNER = "Research use only. Not a medical device."


@cache
def stylesheet() -> str:
    """The one stylesheet of all reports."""
    folder = resources.files("segpipe.report") / "templates"
    return (folder / "style.css").read_text(encoding="utf-8")


def security_policy() -> str:
    """Content-Security-Policy: no network, no script, no style but the one that is inlined."""
    digest = base64.b64encode(hashlib.sha256(stylesheet().encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("segpipe.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("number", "percent", "count", "interval", "spacing", "size_range")
    environment.filters.update({name: getattr(wording, name) for name in names})
    environment.filters.update({"ml": wording.volume, "mm": wording.length})
    return environment.get_template(name)


def render(template: str, values: dict[str, Any]) -> str:
    """A whole HTML page.

    Parameters
    ----------
    template : str
        File name in ``templates``.
    values : dict
        What the template needs; a name that it misses raises ``jinja2.UndefinedError``.
        Strings are escaped.

    Returns
    -------
    str
    """
    fixed = {
        "banner": BANNER,
        # Closing tags cannot occur in the stylesheet, which is ours.
        "stylesheet": Markup(stylesheet()),
        "security_policy": security_policy(),
    }
    return _template(template).render({**fixed, **values})
