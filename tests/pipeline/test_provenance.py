"""What a run tells of the machine that made it."""

from segpipe.pipeline.provenance import environment


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
