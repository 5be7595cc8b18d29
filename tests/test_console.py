import io
import sys
import types

import pytest
from rich.console import Console

from segpipe import cli
from segpipe.cli import console, shared, training
from segpipe.cli.console import ConsoleObserver
from segpipe.errors import ConfigError, DataError


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(console.time, "monotonic", lambda: Clock.now)
    return Clock


def observer(terminal, width=20):
    stream = io.StringIO()
    return ConsoleObserver(Console(file=stream, force_terminal=terminal, width=width)), stream


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "text", ["/a/" + "long" * 30 + "/b.nii.gz", "[red]x[/red] [1, 2]", "12 mm, 'x', 3.5e-4, None"]
)
def test_messages_are_one_line_never_cut_or_decorated(terminal, text):
    shown, stream = observer(terminal)
    shown.message(text)
    assert stream.getvalue() == text + "\n"


def test_a_log_gets_a_plain_line_every_half_minute(clock):
    shown, stream = observer(terminal=False)
    for second in range(0, 100, 10):
        clock.now = float(second)
        shown.progress(second, 100, "steps [x]")
    assert stream.getvalue() == "40/100 steps [x]\n80/100 steps [x]\n"
    shown.close()


def test_a_terminal_gets_a_bar_that_goes_away():
    shown, stream = observer(terminal=True, width=80)
    shown.progress(1, 3, "preparing")
    shown.progress(2, 3, "preparing")
    assert shown._bar is not None
    shown.progress(3, 3, "preparing")
    assert shown._bar is None
    assert "3/3" in stream.getvalue()
    assert "preparing" in stream.getvalue()
    before = len(stream.getvalue())
    shown.close()
    assert len(stream.getvalue()) == before
    shown.progress(5, 7, "again")
    shown.close()
    assert "5/7" in stream.getvalue()


def test_figures_and_files_are_not_for_the_terminal(tmp_path):
    shown, stream = observer(terminal=True)
    shown.params({"a": 1})
    shown.metrics({"dice": 0.5}, 3)
    shown.artifact(tmp_path)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("ends_with", "code", "told"),
    [(DataError("a.nii", "gone"), 2, "a.nii: gone"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_the_cursor_is_back_before_an_error_is_told(monkeypatch, ends_with, code, told):
    def run_prepare(config, observer):
        observer.progress(1, 3, "preparing")
        raise ends_with

    stream = io.StringIO()
    pipeline = types.SimpleNamespace(run_prepare=run_prepare)
    monkeypatch.setitem(sys.modules, "segpipe.pipeline.prepare", pipeline)
    monkeypatch.setattr(training, "load", lambda *_: None)
    monkeypatch.setattr(shared, "Console", lambda **_: Console(file=stream, force_terminal=True))
    monkeypatch.setattr(sys, "argv", ["segpipe", "prepare", "x.yaml"])
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    before, _, after = stream.getvalue().rpartition(shown)
    assert hidden in before
    assert hidden not in after
    assert after.rstrip().endswith(f"segpipe: {told}")


@pytest.mark.parametrize("text", ["²", "-1", "1.0", "", "first"])
def test_a_fold_that_is_no_number_is_refused(text):
    with pytest.raises(ConfigError, match="expected a number or all"):
        shared.fold_number(text)
