import json
import math
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from segpipe.config import ModelConfig
from segpipe.losses.compound import CompoundLoss
from segpipe.model.unet import build_unet

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks are not installed with the package

from benchmarks import figures, report, score, timing  # noqa: E402
from benchmarks.flops import forward_flops, layer_flops, step_flops  # noqa: E402
from benchmarks.predict import dice  # noqa: E402
from benchmarks.training import PENALTIES, PLAIN, Work, make_batch  # noqa: E402

BLOCKED = ("nibabel", "blosc2", "albumentations", "cc3d", "cv2", "mlflow", "skimage", "pandas")

RUN_GPU = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
from benchmarks.gpu import main

sizes = "--patch 8 8 8 --features 2 4 --batch 1 --steps 1 --repeat 2 --peak-tflops 1"
main(["--backend", "{backend}", "--json", "{target}", *sizes.split()])
"""


def test_a_convolution_is_counted_as_by_hand():
    image = keras.Input((8, 6, 4, 3))
    convolution = layers.Conv3D(5, (3, 3, 1), strides=(2, 2, 1), padding="same")
    upwards = layers.Conv3DTranspose(7, (2, 2, 1), strides=(2, 2, 1))
    network = keras.Model(image, upwards(layers.ReLU()(convolution(image))))
    down = 2 * (4 * 3 * 4) * (3 * 3 * 1) * 3 * 5
    up = 2 * (4 * 3 * 4) * (2 * 2 * 1) * 5 * 7
    assert layer_flops(convolution) == down
    assert layer_flops(upwards) == up
    assert forward_flops(network) == down + up
    assert step_flops(network) == 2 * down + 3 * up


def test_a_whole_unet_is_counted_as_by_hand():
    config = ModelConfig(features=(4, 8), block="plain")
    network = build_unet(config, (16, 16, 16), (1, 1, 1), 2, 1)
    fine, coarse = 16**3, 8**3
    first = 27 * 2 * 4 * fine
    expected = first + 27 * 4 * 4 * fine  # encoder, finest level
    expected += 27 * 4 * 8 * coarse + 27 * 8 * 8 * coarse
    expected += 8 * 8 * 4 * coarse  # up: every coarse voxel fills 2 × 2 × 2
    expected += 27 * 8 * 4 * fine + 27 * 4 * 4 * fine + 4 * fine
    assert forward_flops(network) == 2 * expected
    assert step_flops(network) == 6 * expected - 2 * first


def test_spreads_compare_what_was_measured_side_by_side():
    slow, fast = timing.Spread((4.0, 9.0, 2.0)), timing.Spread((2.0, 3.0, 2.0))
    assert slow.over(fast).samples == (2.0, 3.0, 1.0)
    assert fast.per(12.0).samples == (6.0, 4.0, 6.0)
    assert str(slow) == "4.00 (2.00–9.00)"
    assert slow.to_json() == {"median": 4.0, "min": 2.0, "max": 9.0, "samples": [4.0, 9.0, 2.0]}


def test_alternation_takes_turns():
    order = []
    works = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    taken = timing.alternate(works, 2)
    assert "".join(order) == "abab"
    assert taken["b"].samples == (2, 4)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.0, "0"),
        (0.00123, "0.00123"),
        (9.994, "9.99"),
        (1234567.0, "1,230,000"),
        (-2.5, "-2.50"),
        (1e-7, "1e-07"),
        (math.nan, "nan"),
    ],
)
def test_figures_have_three_digits(number, expected):
    assert timing.short(number) == expected


def test_table_aligns_and_shows_what_is_missing():
    rows = [{"engine": "keras", "s": timing.Spread((1.0,))}, {"engine": "ov", "s": None, "n": 12}]
    assert report.table(rows).splitlines() == [
        "engine                 s   n",
        "------  ----------------  --",
        "keras   1.00 (1.00–1.00)   –",
        "ov                     –  12",
    ]


def test_json_holds_figures_and_machine(tmp_path):
    path = tmp_path / "new" / "score.json"
    report.write(path, report.document("score", [{"pair": "a", "s": timing.Spread((1.0, 3.0))}]))
    found = json.loads(path.read_text())
    samples = {"median": 2.0, "min": 1.0, "max": 3.0, "samples": [1.0, 3.0]}
    assert found["schema"] == 1
    assert found["benchmark"] == "score"
    assert found["rows"] == [{"pair": "a", "s": samples}]
    assert found["machine"]["versions"]["numpy"] == np.__version__
    assert found["machine"]["cores"] >= 1
    assert {"cpu", "date", "command", "python", "system"} <= found["machine"].keys()


@pytest.mark.parametrize(
    ("command", "page"), [("ablation", "ablation.md"), ("study", "study-false-positives.md")]
)
def test_a_page_has_the_marks_of_the_command_that_writes_its_tables(command, page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [text.count(mark) for mark in report.marks(command)] == [1, 1]


def test_undefined_figures_are_refused_rather_than_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        report.write(tmp_path / "x.json", {"s": math.nan})


def test_the_steps_compared_differ_by_the_penalties_alone():
    image, target = make_batch(Work((4,), (12, 12, 12), 2))
    full, bare = (
        CompoundLoss(loss, 1, 1.0).terms(image[..., :1], target, 1.0) for loss in (PENALTIES, PLAIN)
    )
    penalties = sum(
        np.asarray(full[f"{name}_lambda"] * full[name])
        for name in ("voxel_count", "region_count", "missed")
    )
    assert penalties.min() > 0
    np.testing.assert_allclose(
        np.asarray(full["total"]), np.asarray(bare["total"]) + penalties, rtol=1e-5
    )


def test_batches_hold_lesions_that_are_brighter():
    image, target = make_batch(Work((4,), (24, 24, 24), 2))
    lesion = target[..., 0] == 1
    assert 216 <= lesion.sum() <= 432
    assert image[lesion].mean() - image[~lesion].mean() > 2.5
    np.testing.assert_array_equal(target[..., 1], 1.0)


def test_the_pair_to_score_holds_misses_and_false_positives():
    row = score.measure("pair", (40, 40, 30), (1.0, 1.0, 1.0), 6, 1)
    assert 0 < row["Dice"] < 1
    assert row["masks MB"] == pytest.approx(2 * 40 * 40 * 30 / 1e6)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_extra_memory_is_that_of_the_largest_moment():
    assert score.extra_mb(lambda: np.ones(50_000_000, np.uint8).sum()) == pytest.approx(50, abs=5)


def test_dice_of_nothing_is_undefined():
    empty, full = np.zeros(4, bool), np.ones(4, bool)
    assert dice(empty, empty) is None
    assert dice(full, np.array([1, 0, 0, 0], bool)) == pytest.approx(0.4)


def test_gpu_runs_with_hardly_anything_installed(tmp_path):
    target = tmp_path / "gpu.json"
    script = RUN_GPU.format(blocked=BLOCKED, backend=keras.backend.backend(), target=target)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(target.read_text())["rows"][0]
    assert row["s/step"]["median"] > 0
    per_second = row["TFLOP/step"] / row["s/step"]["samples"][1]
    assert row["TFLOP/s"]["samples"][1] == pytest.approx(per_second)
    assert row["share of peak"]["samples"][1] == pytest.approx(per_second)
    assert "TFLOP/s" in done.stdout


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients by TensorFlow")
def test_the_pictures_of_the_losses_are_drawn_again_the_same(tmp_path, monkeypatch):
    shown = sorted(path.name for path in figures.IMAGES.glob("loss-*.png"))
    drawn = []
    for name in ("first", "second"):
        monkeypatch.setattr(figures, "IMAGES", tmp_path / name)
        figures.main()
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert sorted(drawn[0]) == shown
    assert drawn[0] == drawn[1]
