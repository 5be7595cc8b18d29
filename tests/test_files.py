import errno
import hashlib
import json
import multiprocessing
import os
import socket
import stat
import tempfile
from pathlib import Path

import psutil
import pytest

from segpipe import files
from segpipe.files import (
    UMASK,
    file_sha256,
    locked,
    replacing,
    temporary_folder,
    write_bytes,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_the_new_one_when_the_block_ends_and_the_old_one_until_then(tmp_path):
    path = tmp_path / "deep" / "er" / "a.bin"
    write_bytes(path, b"old")
    with replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.bin"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~UMASK


def test_a_new_file_has_the_rights_that_the_umask_leaves_and_a_replaced_one_its_own(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "UMASK", 0o027)
    path = tmp_path / "a"
    write_bytes(path, b"old")
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    write_bytes(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o604


def test_text_is_utf_8_with_its_line_ends_as_they_are(tmp_path):
    write_text(tmp_path / "a", "λ\r\n–\n")
    assert (tmp_path / "a").read_bytes() == b"\xce\xbb\r\n\xe2\x80\x93\n"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError(28, "disk full")])
def test_an_interrupted_block_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupted():
        with replacing(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        interrupted()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failure_after_writing_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="input/output"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_will_do(tmp_path, monkeypatch, number):
    sync = os.fsync

    def of_files(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, "no such thing")
        sync(handle)

    monkeypatch.setattr(os, "fsync", of_files)
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_what_a_kill_leaves_is_hidden_beside_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")
    seen = []
    monkeypatch.setattr(os, "replace", lambda temporary, _: seen.append(Path(temporary)))
    write_bytes(path, b"new")  # never renamed, as if killed just before
    assert path.read_bytes() == b"old"
    assert seen[0].parent == tmp_path
    assert seen[0].read_bytes() == b"new"
    assert seen[0].name.startswith(".")
    assert not list(tmp_path.glob("*.npz"))[1:]


def left_by_dead_processes(folder):
    """What a process that was killed, one that lives, and one of another machine left."""
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    process.join()
    host = socket.gethostname()
    kept = {f".new-{host}-{os.getppid()}-x", f".new-other-{process.pid}-x"}
    for name in kept:
        (folder / name).write_text("")
    (folder / f".new-{host}-{process.pid}-half").write_text("")
    (folder / f".new-{host}-{process.pid}-whole").mkdir()
    (folder / f".new-{host}-{process.pid}-whole" / "a").write_text("")
    return kept


def test_what_killed_processes_left_goes_with_the_next_file_or_folder(tmp_path):
    for kind in ("file", "folder"):
        home = tmp_path / kind
        home.mkdir()
        kept = left_by_dead_processes(home)
        if kind == "file":
            write_bytes(home / "a", b"new")
            assert set(names(home)) == {*kept, "a"}
            continue
        with temporary_folder(home) as folder:
            assert set(names(home)) == {*kept, folder.name}
            assert folder.name.startswith(".")
        assert set(names(home)) == kept


@pytest.mark.skipif(files.fcntl is None, reason="no locks")
def test_what_a_process_of_another_container_still_writes_is_no_leftover(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "pid_exists", lambda _: False)  # of another PID namespace
    with replacing(tmp_path / "slow") as stream, temporary_folder(tmp_path) as folder:
        stream.write(b"x")
        write_bytes(tmp_path / "other", b"y")
        assert folder.is_dir()
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {
        "other": b"y",
        "slow": b"x",
    }


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_was_taken_for_a_leftover_before_it_was_held_is_made_again(
    tmp_path, monkeypatch, kind
):
    make = f"_temporary_{kind}"
    real, made = getattr(files, make), []

    def robbed(parent):
        handle, path = real(parent)
        made.append(path)
        if len(made) == 1:
            path.unlink() if kind == "file" else path.rmdir()
        return handle, path

    monkeypatch.setattr(files, make, robbed)
    if kind == "file":
        write_bytes(tmp_path / "a", b"x")
        assert (tmp_path / "a").read_bytes() == b"x"
    else:
        with temporary_folder(tmp_path) as folder:
            assert folder.is_dir()
    assert len(made) == 2


@pytest.mark.skipif(files.fcntl is None, reason="no locks")
def test_a_lock_file_has_one_holder_and_goes_with_it(tmp_path):
    path = tmp_path / "new" / "lock"
    for _ in range(2):
        with locked(path):
            with pytest.raises(BlockingIOError, match="held by another"), locked(path):
                pass
            assert path.exists()
        assert not path.exists()


@pytest.mark.skipif(files.fcntl is None, reason="no locks")
def test_a_lock_file_that_its_last_holder_removed_is_made_again(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    real, opened = os.open, []

    def late(*arguments):
        handle = real(*arguments)
        opened.append(handle)
        if len(opened) == 1:
            path.unlink()
        return handle

    monkeypatch.setattr(os, "open", late)
    with locked(path):
        assert path.exists()
    assert len(opened) == 2


def test_a_temporary_folder_may_become_another(tmp_path):
    with temporary_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("x")
        folder.rename(tmp_path / "new" / "kept")
    assert names(tmp_path / "new") == ["kept"]
    assert (tmp_path / "new" / "kept" / "a").read_text() == "x"


def test_a_folder_that_cannot_be_written_raises_and_harms_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        write_bytes(tmp_path / "file" / "a", b"new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_bytes(tmp_path / "folder", b"new")
    assert names(tmp_path) == ["file", "folder"]

    def refuse(**_):
        raise PermissionError(13, "read-only folder")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(PermissionError, match="read-only"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "x"


def test_the_digest_is_that_of_the_content(tmp_path):
    content = bytes(range(256)) * 5000
    write_bytes(tmp_path / "a", content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    write_bytes(tmp_path / "b", b"")
    assert file_sha256(tmp_path / "b").startswith("e3b0c44298fc1c14")


def test_a_name_that_is_no_utf_8_is_written_so_that_json_reads_it_back(tmp_path):
    name = os.fsdecode(b"M\xfcller")
    write_text(
        tmp_path / "a.json", json.dumps({"path": name, "plain": "Müller"}, ensure_ascii=False)
    )
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"path": name, "plain": "Müller"}


def test_a_full_disk_is_told_with_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a.json'"):
        write_text(tmp_path / "a.json", "x")
    assert names(tmp_path) == []
