import pickle
import subprocess
import sys
import types

import psutil
import pytest

from segpipe.errors import ConfigError, DataError, GeometryError, ModelError, SegpipeError
from segpipe.parallel import Outcome, map_cases


def fields(error):
    return error.where, error.problem, error.expected, error.received, error.fix, str(error)


BROKEN = DataError("a.nii.gz", "not finite", expected="numbers", received="3 NaN", fix="Repair it.")


def test_the_message_says_where_what_expected_received_and_the_fix():
    assert str(BROKEN) == ("a.nii.gz: not finite; expected numbers; received 3 NaN. Repair it.")
    assert str(DataError("a", "gone")) == "a: gone"


@pytest.mark.parametrize("kind", [SegpipeError, ConfigError, ModelError, GeometryError])
def test_simple_errors_survive_pickling(kind):
    copy = pickle.loads(pickle.dumps(kind("what is wrong")))
    assert type(copy) is kind
    assert str(copy) == "what is wrong"


def test_a_data_error_survives_pickling_with_every_field():
    copy = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(BROKEN))))
    assert type(copy) is DataError
    assert fields(copy) == fields(BROKEN)


def test_errors_of_cases_become_outcomes_and_the_others_go_on():
    def half(number):
        if number % 2:
            raise BROKEN
        return number // 2

    outcomes = list(map_cases(half, [4, 3, 2]))
    assert [o.item for o in outcomes] == [4, 3, 2]
    assert [o.value for o in outcomes] == [2, None, 1]
    assert [o.error for o in outcomes] == [None, BROKEN, None]
    assert list(map_cases(half, [])) == []


def test_a_bug_is_not_an_outcome():
    def divide(number):
        return 1 / number

    outcomes = map_cases(divide, [1, 0])
    assert next(outcomes) == Outcome(1, value=1.0)
    with pytest.raises(ZeroDivisionError):
        next(outcomes)


def test_processes_give_the_same_outcomes_in_the_same_order():
    def work(number):  # nested, so that it is sent by value
        import os
        import time

        from segpipe.errors import DataError

        if number == 2:
            raise DataError("c2", "bad", expected="1", received="2", fix="Mend it.")
        time.sleep(0.05 if number == 0 else 0)
        return number * 10, os.getpid()

    import os

    outcomes = list(map_cases(work, range(4), workers=2))
    assert [o.item for o in outcomes] == [0, 1, 2, 3]
    assert [o.value[0] for o in outcomes if o.error is None] == [0, 10, 30]
    assert os.getpid() not in {o.value[1] for o in outcomes if o.error is None}
    error = outcomes[2].error
    assert type(error) is DataError
    assert fields(error) == ("c2", "bad", "1", "2", "Mend it.", str(error))
    assert str(error) == "c2: bad; expected 1; received 2. Mend it."

    def bug(number):
        raise KeyError(number)

    with pytest.raises(KeyError):
        list(map_cases(bug, range(2), workers=2))


def test_a_worker_that_dies_is_an_error_in_one_line():
    def die(number):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(DataError) as raised:
        list(map_cases(die, range(2), workers=2))
    told = fields(raised.value)
    assert told[:2] == ("worker process", "died, perhaps for lack of memory")
    assert told[4] == "Set prepare.workers=1, or free memory."
    assert "\n" not in told[5]
    assert [o.value for o in map_cases(abs, range(2), workers=2)] == [0, 1]  # and then others work


def test_workers_end_with_the_process_that_they_work_for():
    code = """
import os, time
from segpipe.parallel import map_cases
def work(number):
    print(os.getpid(), flush=True)
    time.sleep(60)
list(map_cases(work, range(2), workers=2))
"""
    killed = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    workers = [psutil.Process(int(killed.stdout.readline())) for _ in range(2)]
    killed.kill()
    killed.wait()
    killed.stdout.close()
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_one_case_needs_no_process():
    here = []
    assert [o.value for o in map_cases(here.append, [5], workers=8)] == [None]
    assert here == [5]


def test_a_scheduler_without_dask_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"tcp://h:1.*pip install distributed"):
        list(map_cases(str, [1], scheduler="tcp://h:1"))


def test_a_scheduler_gets_the_work_and_outcomes_keep_their_order(monkeypatch):
    opened = []

    class Client:
        def __init__(self, address):
            opened.append(address)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            opened.append("closed")

        def map(self, function, *columns):
            rows = zip(*columns, strict=True)
            return [types.SimpleNamespace(result=lambda r=row: function(*r)) for row in rows]

    monkeypatch.setitem(sys.modules, "distributed", types.SimpleNamespace(Client=Client))

    def work(number):
        if number == 1:
            raise BROKEN
        return -number

    outcomes = list(map_cases(work, (3, 1, 2), scheduler="tcp://h:1"))
    assert [(o.item, o.value, o.error) for o in outcomes] == [
        (3, -3, None),
        (1, None, BROKEN),
        (2, -2, None),
    ]
    assert opened == ["tcp://h:1", "closed"]
