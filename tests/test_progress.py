"""Commands that read a dataset for long tell case by case how far they are."""

import pytest
from typer.testing import CliRunner

from segpipe.cli.app import app
from segpipe.cli.console import ConsoleObserver
from segpipe.config import load
from segpipe.data.layouts import open_dataset
from segpipe.data.splits import dataset_digest
from segpipe.observer import Silent
from segpipe.pipeline.train import run_train
from segpipe.samples import make, make_sample


class Heard(Silent):
    """Keeps what it hears of progress."""

    def __init__(self):
        self.steps = []

    def progress(self, done, total, text=""):
        self.steps.append((done, total, text))


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (("check", "{data}"), [(done, 6, "checking") for done in range(1, 7)]),
        (
            ("score", "{data}/labelsTs", "{data}/labelsTs"),
            [(1, 2, "scoring sample005"), (2, 2, "scoring sample006")],
        ),
        (
            ("score", "{data}/labelsTs", "{other}"),
            [
                *((done, 2, "looking for labels") for done in (1, 2)),
                (1, 2, "scoring sample005"),
                (2, 2, "scoring sample006"),
            ],
        ),
        (("samples", "{made}", "--cases", "1"), [(1, 1, "sample001")]),
    ],
)
def test_commands_tell_how_far_they_are(arguments, steps, tiny_samples, tmp_path, monkeypatch):
    (tmp_path / "bare").mkdir()
    for name in ("sample005", "sample006"):
        file = f"{name}.nii.gz"
        (tmp_path / "bare" / file).write_bytes((tiny_samples / "labelsTs" / file).read_bytes())
    places = {"data": tiny_samples, "other": tmp_path / "bare", "made": tmp_path / "made"}
    filled = [argument.format(**places) for argument in arguments]
    if "{other}" in arguments:
        filled[1] = filled[2]  # no dataset.json near the references: labels are looked for
    heard = Heard()
    monkeypatch.setattr(ConsoleObserver, "progress", lambda _, *told: heard.progress(*told))
    monkeypatch.setattr(make, "make_sample", lambda *values: make_sample(*values[:3], 4.0))  # fast
    result = CliRunner().invoke(app, filled)
    assert result.exit_code == 0, result.output
    assert heard.steps == steps


def test_hashing_a_dataset_tells_how_far_it_is_and_does_so_before_training(tiny_config):
    config = load(tiny_config)
    dataset = open_dataset(config.data)
    heard = Heard()
    assert dataset_digest(dataset, heard) == dataset_digest(dataset)
    assert heard.steps == [(done, 6, "hashing") for done in range(1, 7)]

    class Enough(Heard):
        def progress(self, done, total, text=""):
            super().progress(done, total, text)
            raise KeyboardInterrupt

    first = Enough()
    with pytest.raises(KeyboardInterrupt):
        run_train(config, 0, None, first)
    assert first.steps == [(1, 6, "hashing")]
