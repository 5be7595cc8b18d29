"""The documentation says what the program does: links, options, settings, fields."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from pydantic import BaseModel

from segpipe.cli import app
from segpipe.config import Config
from segpipe.config.load import parse
from segpipe.evaluate.score import score_labels
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import COLUMNS
from segpipe.report import document
from segpipe.volume import Volume

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
FILE_ENDINGS = ("json", "csv", "html", "nii", "parquet", "py", "md")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def slug(heading):
    """The anchor that a forge gives a heading."""
    plain = LINK.sub("", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page):
    return {slug(line.lstrip("#")) for line in page.read_text().splitlines() if line[:1] == "#"}


def commands(text):
    """Every ``segpipe COMMAND …`` in code, continuation lines joined."""
    text = FENCE.sub(lambda found: found[0] if found[1] in ("", "bash") else "", text)
    joined = text.replace("\\\n", " ")
    blocks = [line.partition(" # ")[0] for line in joined.splitlines() if line.startswith("    ")]
    for code in (*blocks, *CODE.findall(joined)):
        for part in code.split("&&"):
            found = re.match(r"\s*segpipe ([a-z]+)(.*)", part)
            if found:
                yield found[1], found[2]


def options():
    """Command to its options."""
    tree = typer.main.get_command(app)
    return {
        name: {
            o for parameter in command.params for o in (*parameter.opts, *parameter.secondary_opts)
        }
        | {"--help"}
        for name, command in tree.commands.items()
    }


def setting(key):
    """The field of a dotted key; None if there is none."""
    model, field = Config, None
    for part in key.split("."):
        field = model.model_fields.get(part) if model else None
        if field is None:
            return None
        kind = field.annotation
        model = kind if inspect.isclass(kind) and issubclass(kind, BaseModel) else None
    return field


def section_of(page, heading):
    """Text from a heading to the next one of any level."""
    text = page.read_text()
    start = re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"{page.name} has no section {heading}"
    return re.split(r"^#+ ", text[start.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def first_column(page, heading):
    return re.findall(r"^\| `(\w+)` \|", section_of(page, heading), re.MULTILINE)


@pytest.fixture(scope="module")
def score():
    reference = np.zeros((5, 5, 5), np.uint8)
    reference[1, 1, 1] = 1
    volume = Volume(reference, np.eye(4))
    return score_labels("a", volume, volume, {"lesion": 1}, ScoreSettings())[0]


@every_page
def test_links_and_pictures_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name}: {target}"
        assert there.is_relative_to(ROOT), f"{page.name}: {target} leaves the project"
        assert not anchor or anchor in anchors(there), f"{page.name}: no heading for {target}"


@every_page
def test_commands_and_options_exist(page):
    known = options()
    for command, rest in commands(page.read_text()):
        assert command in known, f"{page.name}: segpipe {command}"
        for option in re.findall(r"(?<=\s)--?[a-z][a-z0-9-]*", rest):
            assert option in known[command], f"{page.name}: segpipe {command} {option}"


@every_page
def test_options_that_stand_alone_exist(page):
    known = set().union(*options().values())
    for code in CODE.findall(page.read_text()):
        if code.startswith("--"):
            assert code.split()[0] in known, f"{page.name}: {code}"


@every_page
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for code in re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text(), re.MULTILINE):
        assert code in targets, f"{page.name}: make {code}"


@every_page
def test_settings_exist(page):
    text = page.read_text()
    keys = re.findall(r"(?<=[\s`\"])([a-z]\w*(?:\.[a-z]\w*)+)=", text)  # overrides
    keys += [re.split("[:=]", code)[0] for code in CODE.findall(text)]
    for key in keys:
        first, dot, last = key.partition(".")
        if dot and first in Config.model_fields and last not in FILE_ENDINGS:
            assert setting(key) is not None, f"{page.name}: {key}"


def stated_defaults(page):
    tables = re.findall(
        r"^\| setting \| default \|.*\n((?:\|.*\n)+)", page.read_text(), re.MULTILINE
    )
    rows = [line.split(" | ") for table in tables for line in table.splitlines()[1:]]
    return [(row[0].strip("| `"), row[1].strip("`")) for row in rows]


@pytest.mark.parametrize("name", ["configuration.md", "losses.md"])
def test_defaults_are_the_defaults(name):
    stated = stated_defaults(ROOT / "docs" / name)
    assert len(stated) >= 8
    smallest = parse({"name": "shown", "data": {"root": "data"}}).model_dump(mode="json")
    for key, default in stated:
        field = setting(key)
        assert field is not None, key
        assert (default == "required") == field.is_required(), key
        if not field.is_required():
            value = smallest
            for part in key.split("."):
                value = value[part]
            assert json.loads(default) == value, key


@every_page
def test_configurations_shown_are_valid(page):
    whole = {"name": "shown", "data": {"root": "data"}}
    for language, text in FENCE.findall(page.read_text()):
        if language == "yaml":
            parse(whole | yaml.safe_load(text), page.name)


def test_fields_of_scores_are_those_of_the_program(score):
    page = ROOT / "docs/evaluation.md"
    assert first_column(page, "Fields of a row") == list(score.row)
    assert first_column(page, "Fields of the details") == list(score.detail)
    assert first_column(page, "Table of components") == list(COLUMNS)


def test_fields_of_predictions_that_reports_read_are_told():
    told = set(CODE.findall(section_of(ROOT / "docs/training.md", "predict.json")))
    records = ("Bundle", "Settings", "Case", "Channel", "Files", "Count", "Component", "Region")
    for record in records:
        fields = getattr(document, f"{record}Record").model_fields
        assert set(fields) <= told, record


EDGES = {
    "both empty": (0, 0),
    "only the reference empty": (0, 1),
    "only the prediction empty": (1, 0),
}


def test_edge_cases_are_those_of_the_program():
    rows = re.findall(
        r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$",
        section_of(ROOT / "docs/evaluation.md", "Edge cases"),
        re.MULTILINE,
    )
    assert len(rows) == 15
    for column, (reference, prediction) in enumerate(EDGES.values(), start=1):
        volumes = []
        for filled in (reference, prediction):
            array = np.zeros((5, 5, 5), np.uint8)
            array[2, 2, 2] = filled
            volumes.append(Volume(array, np.eye(4)))
        found = score_labels("a", *volumes, {"lesion": 1}, ScoreSettings())[0]
        figures = found.row | found.detail
        for row in rows:
            assert figures[row[0]] == json.loads(row[column]), (row[0], list(EDGES)[column - 1])
