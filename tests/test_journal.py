"""A document of many cases: nothing is lost or made up, and the cost grows as the cases do."""

import json
import os

import pytest

from segpipe import journal
from segpipe.journal import Journal, read_journal

HEAD = {"schema": 1, "created": "2026-01-01T00:00:00+00:00"}


def names(path):
    return [entry["case"] for entry in read_journal(path)["cases"]]


def grow(path, count, head=HEAD):
    """A journal of ``count`` cases, each kept as it came."""
    cases, made = {}, Journal(path, head)
    for index in range(count):
        cases[f"c{index:04}"] = {"case": f"c{index:04}", "text": "ü" * 100}
        made.change(cases, f"c{index:04}")
    return made, cases


@pytest.mark.parametrize("count", [30, 300])
def test_all_that_is_written_is_a_few_times_the_last_document(tmp_path, monkeypatch, count):
    whole = []
    write = journal.write_bytes
    monkeypatch.setattr(
        journal,
        "write_bytes",
        lambda path, content: (whole.append(len(content)), write(path, content)),
    )
    path = tmp_path / "p.json"
    made, cases = grow(path, count)
    made.write(cases)
    lines = sum(len(json.dumps(entry, ensure_ascii=False).encode()) for entry in cases.values())
    assert sum(whole) + lines <= 4 * path.stat().st_size
    assert whole == sorted(whole)


def test_after_every_change_the_reader_has_all_of_it(tmp_path):
    path = tmp_path / "p.json"
    cases, made = {}, Journal(path, HEAD)
    for step in range(60):
        name = f"c{step * 7 % 20:02}"
        if name in cases and step % 3:
            del cases[name]
        else:
            cases[name] = {"case": name, "step": step}
        made.change(cases, name)
        assert read_journal(path) == {**HEAD, "cases": [cases[name] for name in sorted(cases)]}
    made.write(cases)
    assert [file.name for file in tmp_path.iterdir()] == ["p.json"]
    assert json.loads(path.read_text())["cases"] == [cases[name] for name in sorted(cases)]


def test_a_line_that_a_kill_cut_is_left_out(tmp_path):
    path = tmp_path / "p.json"
    grow(path, 3)
    lines = tmp_path / ".p.jsonl"
    assert json.loads(path.read_text())["cases"][-1]["case"] == "c0000"
    lines.write_bytes(lines.read_bytes()[:-5])
    assert names(path) == ["c0000", "c0001"]


def test_lines_of_another_document_do_not_change_this_one(tmp_path, monkeypatch):
    path = tmp_path / "p.json"
    grow(path, 3)

    def killed(path, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "pathlib.Path.unlink", killed
    )  # the new document is there, the old lines too
    with pytest.raises(KeyboardInterrupt):
        Journal(path, {**HEAD, "created": "2026-01-02"}).write({"x": {"case": "x"}})
    assert names(path) == ["x"]


def test_a_document_without_cases_is_refused_where_lines_should_change_it(tmp_path):
    path = tmp_path / "p.json"
    grow(path, 2)
    path.write_text('{"created": 1}')
    with pytest.raises(ValueError, match="no list of cases: KeyError"):
        read_journal(path)


def test_a_path_that_is_no_utf_8_is_kept(tmp_path):
    path, name = tmp_path / "p.json", os.fsdecode(b"M\xfcller")
    cases, made = {"a": {"case": "a", "path": name}}, Journal(path, HEAD)
    made.write({})
    for _ in range(2):  # as a line, and in the whole document
        made.change(cases, "a")
        assert read_journal(path)["cases"] == [{"case": "a", "path": name}]
        made.write(cases)
