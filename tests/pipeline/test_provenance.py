"""What a run tells of the machine that made it."""

import shutil
import subprocess

import pytest

import segpipe
from segpipe.pipeline.provenance import environment, source


def test_the_environment_names_the_switches_that_bits_depend_on(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")
    comments = [line for line in environment().splitlines() if line.startswith("#")]
    assert "# ONEDNN_MAX_CPU_ISA=AVX2" in comments
    assert not any("NVIDIA_TF32_OVERRIDE" in line for line in comments)


def test_every_other_line_of_the_environment_is_a_package():
    lines = [line for line in environment().splitlines() if not line.startswith("#")]
    assert any(line.startswith("keras==3.") for line in lines)
    assert all(line.count("==") == 1 for line in lines)


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    (tmp_path / "segpipe").mkdir()
    (tmp_path / "segpipe" / "__init__.py").write_text("")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x")
    return tmp_path


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_revision_is_that_of_a_checkout_of_segpipe_and_of_no_other(repository, monkeypatch):
    def found(package):
        monkeypatch.setattr(segpipe, "__file__", str(package / "__init__.py"))
        return source()

    own = found(repository / "segpipe")
    assert len(own.revision) == 40
    assert own.dirty is False
    (repository / "segpipe" / "__init__.py").write_text("1")
    assert found(repository / "segpipe").dirty is True
    inside = repository / ".venv" / "site-packages" / "segpipe"
    shutil.copytree(repository / "segpipe", inside)
    assert (found(inside).revision, found(inside).dirty) == (None, None)
