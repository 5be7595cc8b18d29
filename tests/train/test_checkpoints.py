import os

import numpy as np
import pytest

from segpipe.observer import Silent
from segpipe.train.checkpoints import load_checkpoint, save_checkpoint


class Listener(Silent):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def arrays(epoch):
    rng = np.random.default_rng([2, epoch])
    return {
        "0000/w": rng.normal(size=(3, 4)).astype(np.float32),
        "optimizer/0": np.array(epoch, np.int64),
    }


def state(epoch):
    return {"best": 0.1 * epoch, "history": list(range(epoch)), "stopped": None}


def save(folder, epoch):
    return save_checkpoint(folder, epoch, arrays(epoch), state(epoch))


def assert_is(checkpoint, epoch):
    assert checkpoint.epoch == epoch
    assert checkpoint.state == state(epoch)
    assert list(checkpoint.arrays) == list(arrays(epoch))
    for name, array in arrays(epoch).items():
        np.testing.assert_array_equal(checkpoint.arrays[name], array)
        assert checkpoint.arrays[name].dtype == array.dtype


def test_a_checkpoint_reads_back_bit_by_bit(tmp_path):
    save(tmp_path / "c", 3)
    assert_is(load_checkpoint(tmp_path / "c", Silent()), 3)


def test_there_is_none_before_the_first(tmp_path):
    assert load_checkpoint(tmp_path, Silent()) is None
    assert load_checkpoint(tmp_path / "none", Silent()) is None


def test_the_newest_and_the_one_before_are_kept_in_order_of_epochs(tmp_path):
    for epoch in (8, 9, 10, 11):
        save(tmp_path, epoch)
    assert sorted(p.name[:12] for p in tmp_path.iterdir()) == ["epoch-000010", "epoch-000011"]
    assert_is(load_checkpoint(tmp_path, Silent()), 11)


def harm_cut(content):
    return content[: len(content) // 2]


def harm_flip(content):
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def harm_empty(content):
    return b""


@pytest.mark.parametrize("harm", [harm_cut, harm_flip, harm_empty])
def test_a_damaged_one_falls_back_to_the_one_before_and_says_so(tmp_path, harm):
    save(tmp_path, 4)
    newest = save(tmp_path, 5)
    newest.write_bytes(harm(newest.read_bytes()))
    listener = Listener()
    assert_is(load_checkpoint(tmp_path, listener), 4)
    assert listener.lines == [f"{newest}: damaged checkpoint; going back to the one before it"]


def test_if_all_are_damaged_there_is_none_and_each_is_named(tmp_path):
    for epoch in (1, 2):
        save(tmp_path, epoch).write_bytes(b"x")
    listener = Listener()
    assert load_checkpoint(tmp_path, listener) is None
    assert len(listener.lines) == 2


def test_going_on_after_damage_mends_it(tmp_path):
    save(tmp_path, 4)
    newest = save(tmp_path, 5)
    whole = newest.read_bytes()
    newest.write_bytes(whole[:50])
    assert save(tmp_path, 5) == newest
    assert newest.read_bytes() == whole
    assert_is(load_checkpoint(tmp_path, Silent()), 5)


def test_a_damaged_one_pushes_no_intact_one_out(tmp_path):
    for epoch in (1, 2):
        save(tmp_path, epoch)
    for index in range(8):  # redone, an epoch has other bits where a clock is among them
        damaged = save(tmp_path, 3)
        damaged.write_bytes(b"x")
        before = load_checkpoint(tmp_path, Silent())
        assert_is(before, 2)
        save_checkpoint(tmp_path, 3, before.arrays, {**before.state, "seconds": index})
        names = sorted(path.name[:12] for path in tmp_path.iterdir())
        assert names == ["epoch-000002", "epoch-000003"]
        newest = load_checkpoint(tmp_path, Silent())
        assert (newest.epoch, newest.state["seconds"]) == (3, index)


def test_a_kill_before_the_rename_leaves_the_last_one(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(os, "replace", lambda *_: None)
    save(tmp_path, 2)
    monkeypatch.undo()
    listener = Listener()
    assert_is(load_checkpoint(tmp_path, listener), 1)
    assert listener.lines == []


def test_other_files_are_no_checkpoints_and_stay(tmp_path):
    others = ["epoch-000009.npz", "epoch-9-0123456789abcdef.npz", "notes.txt"]
    for name in others:
        (tmp_path / name).write_bytes(b"x")
    for epoch in (1, 2, 3):
        save(tmp_path, epoch)
    assert_is(load_checkpoint(tmp_path, Silent()), 3)
    assert all((tmp_path / name).exists() for name in others)


def test_a_state_that_is_no_json_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 1, {}, {"a": object()})
    assert list(tmp_path.iterdir()) == []
