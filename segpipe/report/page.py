"""From a template to one self-contained HTML page that may not reach the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from segpipe.report import wording
from segpipe.report.validation import caution

BANNER = "Research use only. Not a medical device."


@cache
def stylesheet() -> str:
    """The one stylesheet of all reports."""
    folder = resources.files("segpipe.report") / "templates"
    return (folder / "style.css").read_text(encoding="utf-8")


def security_policy(scripts: Sequence[str] = ()) -> str:
    """Content-Security-Policy: no network, no style and no script but those that are inlined."""
    allowed = " ".join(_digest(script) for script in scripts)
    return (
        f"default-src 'none'; img-src data:; style-src {_digest(stylesheet())}; "
        + (f"script-src {allowed}; " if allowed else "")
        + "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("segpipe.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = ("count", "interval", "spacing", "size_range")
    names = ("number", "percent", "probability", "signed", *words)
    environment.filters.update({name: getattr(wording, name) for name in names})
    environment.filters.update({"ml": wording.volume, "mm": wording.length, "caution": caution})
    return environment.get_template(name)


def render(template: str, values: dict[str, Any], scripts: Sequence[str] = ()) -> str:
    """A whole HTML page.

    Parameters
    ----------
    template : str
        File name in ``templates``.
    values : dict
        What the template needs; a name that it misses raises ``jinja2.UndefinedError``.
        Strings are escaped.
    scripts : sequence of str
        JavaScript of ours or of a library, inlined after the content as it stands; no other
        script can run.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If a script would end its own element.
    """
    for script in scripts:
        if "</script" in script.lower() or "<!--" in script:
            raise ValueError("a script that is inlined must hold neither </script nor <!--")
    fixed = {
        "banner": BANNER,
        # Closing tags cannot occur in the stylesheet, which is ours.
        "stylesheet": Markup(stylesheet()),
        "security_policy": security_policy(scripts),
        "scripts": [Markup(script) for script in scripts],
    }
    return _template(template).render({**fixed, **values})
