"""Lists of trainings go on where they were, each row of jobs apart."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.jobs import work_off

SWITCHES = ("TF_NUM_INTRAOP_THREADS", "TF_CPU_ALLOCATOR_USE_BFC")


@dataclass(frozen=True)
class Note:
    name: str
    result: Path

    def __str__(self):
        return self.name


def note(job, work):
    if job.name == "fails":
        raise ValueError("no such fold")
    found = {"process": os.getpid(), "work": str(work)} | {
        name: os.environ[name] for name in SWITCHES
    }
    job.result.write_text(json.dumps(found))
    return {"seconds": 1.5}


def test_each_row_runs_in_its_own_process(tmp_path, capsys, monkeypatch):
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    jobs = [Note(name, tmp_path / f"{name}.json") for name in ("a", "b", "c")]
    work_off([jobs[:2], [], jobs[2:]], note, tmp_path / "work")
    assert capsys.readouterr().out == "2 left: a: 1.5 s\n1 left: b: 1.5 s\n0 left: c: 1.5 s\n"
    a, b, c = (json.loads(job.result.read_text()) for job in jobs)
    assert a["work"] == str(tmp_path / "work")
    assert [a[name] for name in SWITCHES] == ["1", "1"]
    assert a["process"] == b["process"]
    assert len({a["process"], c["process"], os.getpid()}) == 3


def test_a_job_that_fails_ends_the_list_with_its_error(tmp_path):
    jobs = [Note(name, tmp_path / f"{name}.json") for name in ("fails", "b", "c")]
    with pytest.raises(ValueError, match="no such fold"):
        work_off([jobs[:2], jobs[2:]], note, tmp_path)
    assert not jobs[1].result.exists()
    assert not jobs[2].result.exists()


def test_no_job_begins_after_the_time(tmp_path):
    jobs = [Note("a", tmp_path / "a.json")]
    work_off([jobs], note, tmp_path, 1e-12)
    assert not jobs[0].result.exists()


def meet(job, work):
    """Ends only beside another job."""
    job.result.touch()
    for _ in range(600):
        if sum(path.suffix == ".json" for path in work.parent.iterdir()) > 1:
            return {"seconds": 0}
        time.sleep(0.1)
    raise TimeoutError


def test_rows_run_side_by_side(tmp_path):
    jobs = [Note(name, tmp_path / f"{name}.json") for name in ("a", "b")]
    work_off([[job] for job in jobs], meet, tmp_path / "work", at_once=2)
    assert all(job.result.exists() for job in jobs)
