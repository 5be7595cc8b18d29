"""``segpipe prepare`` killed at any moment: done again, it leaves what it would have left."""

import functools

import pytest
import yaml

from segpipe.config import load
from segpipe.observer import Silent
from segpipe.pipeline.prepare import run_prepare


@pytest.fixture(scope="module")
def prepare(tiny_values, tmp_path_factory, kill_after):
    """Prepares by so many workers, for so long; returns the folder and how long it was."""

    def _prepare(workers, seconds=None):
        folder = tmp_path_factory.mktemp("prepared")
        path = folder / "tiny.yaml"
        values = {**tiny_values, "prepare": {"workers": workers}, "output": str(folder / "runs")}
        path.write_text(yaml.safe_dump(values))
        return path, kill_after(seconds, "segpipe.pipeline.prepare", "prepare", str(path))

    return _prepare


@pytest.fixture(scope="module")
def undisturbed(prepare):
    return functools.cache(prepare)


def test_prepare_killed_at_any_moment_and_done_again_is_the_same(
    prepare, undisturbed, killed_at, tree
):
    workers = 2 - int(killed_at * 11) % 2  # every other one
    whole, seconds = undisturbed(workers)
    path, _ = prepare(workers, killed_at * seconds)
    assert run_prepare(load(path, ["prepare.workers=1"]), Silent()) is False
    assert tree(path.parent) == tree(whole.parent)
