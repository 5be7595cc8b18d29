"""The Makefile: targets take CONFIG at its word, and keep bytecode."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (
            [],
            "predict --bundle models:/samples@champion data_samples/imagesTs --store runs "
            "--regions data_samples -o runs/predictions/samples --overwrite",
        ),
        (
            ["CONFIG={config}"],
            "predict --bundle models:/mine@champion scans/imagesTs --store kept "
            "--regions scans -o kept/predictions/mine --overwrite",
        ),
        (
            ["CONFIG={spaced}"],
            "predict --bundle models:/mine@champion 'my scans/imagesTs' --store 'my runs' "
            "--regions 'my scans' -o 'my runs/predictions/mine' --overwrite",
        ),
    ],
)
def test_reports_are_of_the_configuration_that_is_asked_for(settings, wanted, tmp_path):
    config, spaced = tmp_path / "mine.yaml", tmp_path / "spaced.yaml"
    config.write_text("name: mine\noutput: kept\ndata: {root: scans}")
    spaced.write_text("name: mine\noutput: my runs\ndata: {root: my scans}")
    asked = [text.format(config=config, spaced=spaced) for text in settings]
    programs = f"BIN={Path(sys.executable).parent}"
    done = subprocess.run(
        ["make", "-n", "report", programs, *asked], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (told,) = [line for line in done.stdout.replace("\\\n", " ").splitlines() if "predict " in line]
    assert shlex.split(told)[1:] == shlex.split(wanted)


def test_bytecode_is_kept_whatever_the_environment_says(tmp_path):
    makefile = tmp_path / "probe.mk"
    makefile.write_text("probe:\n\t@env\n")
    done = subprocess.run(
        ["make", "-f", "Makefile", "-f", makefile, "probe"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "PATH=" in done.stdout
    assert "PYTHONDONTWRITEBYTECODE" not in done.stdout
