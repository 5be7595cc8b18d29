"""Speed beside nnU-Net, without nnU-Net: what a command costs, and the rows of the tables."""

import os
import sys

import pytest

from benchmarks.peers.measure import _compared, time_patches
from benchmarks.peers.tree import Cost, watch

HOLD = "import time; held = bytearray(%d * 10**6); held[::4096] = b'1' * len(held[::4096]); "


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory of a process: Linux")
def test_memory_is_that_of_a_command_with_its_children_at_one_time():
    child = HOLD % 80 + "time.sleep(0.6)"
    parent = f"import subprocess, sys; {HOLD % 60}subprocess.run([sys.executable, '-c', {child!r}])"
    alone = watch([sys.executable, "-c", HOLD % 60 + "time.sleep(0.4)"], os.environ)
    both = watch([sys.executable, "-c", parent], os.environ)
    assert 60 <= alone.peak_mb < 100
    assert 140 <= both.peak_mb < 200
    assert both.seconds >= 0.6


def test_a_command_that_fails_says_what_it_wrote():
    program = "import sys; print('first'); sys.exit('no such scan')"
    with pytest.raises(RuntimeError, match=r"ended with 1: first\s+no such scan") as raised:
        watch([sys.executable, "-c", program], os.environ)
    assert program in str(raised.value)


def test_rows_are_ratios_round_by_round():
    taken = {
        "nnU-Net": [Cost(20.0, 3000.0), Cost(30.0, 3000.0), Cost(40.0, 6000.0)],
        "segpipe": [Cost(10.0, 1500.0), Cost(10.0, 1000.0), Cost(8.0, 1500.0)],
    }
    theirs, ours = _compared({"work": "prepare"}, taken, 2)
    assert theirs["s/case"].samples == (10.0, 15.0, 20.0)
    assert theirs["segpipe: times"].samples == (2.0, 3.0, 5.0)
    assert theirs["segpipe: of it"].samples == (0.5, 1 / 3, 0.25)
    assert ours["segpipe: times"].median == ours["segpipe: of it"].median == 1.0
    assert ours["MB"].samples == (1500.0, 1000.0, 1500.0)


def test_our_patches_are_timed_after_the_first_ones():
    times = time_patches((16, 12, 8), 2, 4)
    assert len(times) == 4
    assert min(times) > 0
