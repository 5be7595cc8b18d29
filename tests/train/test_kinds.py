"""Every kind of network and task goes from scans to scored masks."""

import json

import nibabel as nib
import numpy as np
import pytest

from segpipe.config import load
from segpipe.observer import Silent
from segpipe.pipeline.predict import PredictRequest, run_predict
from segpipe.pipeline.runs import all_runs
from segpipe.pipeline.train import run_train

SHORT = ["train.epochs=1", "train.steps_per_epoch=3", "train.validate_every=0"]

KINDS = {
    "slices": ["model.dimensions=2", "train.patch=[16, 16]", "train.batch=3"],
    "residual, deeply supervised": [
        "model.block=residual",
        "model.deep_supervision=true",
        "model.features=[4, 8, 8]",
    ],
    "batch norm, SGD, cosine": [
        "model.norm=batch",
        "train.optimizer=sgd",
        "train.schedule=cosine",
        "train.learning_rate=0.01",
    ],
    "no augmentation, no regions, thresholded intensities": [
        "augment.enabled=false",
        "anatomy.regions=[]",
        "prepare.normalise=ct",
        "prepare.spacing_mm=[5, 5, 6]",
    ],
    "bfloat16": ["train.precision=mixed_bfloat16"],
}


def run(config, scans, folder):
    assert run_train(config, 0, None, Silent()) is False
    bundle = all_runs(config)[0].bundle(0)
    request = PredictRequest((str(bundle),), (scans,), folder, engine="keras")
    assert run_predict(request, Silent()) is False
    return json.loads((folder / "predict.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_trains_and_predicts(kind, tiny_config, tiny_samples, tmp_path):
    config = load(tiny_config, [*SHORT, *KINDS[kind]])
    try:
        document = run(config, tiny_samples / "imagesTs", tmp_path / "out")
    finally:
        import keras

        keras.config.set_dtype_policy("float32")
    assert [case["status"] for case in document["cases"]] == ["predicted", "predicted"]


def test_several_labels_and_one_channel(tiny_samples, tiny_config, tmp_path):
    root = tmp_path / "sides"
    for part in ("Tr", "Ts"):
        for path in sorted((tiny_samples / f"images{part}").glob("*_0000.nii.gz")):
            target = root / f"images{part}" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        for path in (tiny_samples / f"labels{part}").iterdir():
            image = nib.load(path)
            labels = np.asanyarray(image.dataobj).copy()
            labels[labels.shape[0] // 2 :] *= 7
            target = root / f"labels{part}" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(labels, image.affine), target)
    (root / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "FLAIR"},
                "labels": {"background": 0, "near": 1, "far": 7},
                "numTraining": 4,
                "file_ending": ".nii.gz",
            }
        )
    )
    config = load(tiny_config, [f"data.root={root}", "anatomy.regions=[]", "train.epochs=4"])
    document = run(config, root / "imagesTs", tmp_path / "out")
    assert document["bundle"]["labels"] == {"near": 1, "far": 7}
    assert set(document["cases"][0]["counts"]) == {"near", "far"}
    for case in document["cases"]:
        mask = np.asanyarray(nib.load(tmp_path / "out" / f"{case['case']}.nii.gz").dataobj)
        assert set(np.unique(mask)) <= {0, 1, 7}
    scores = next((config.output / "tiny").glob("*/fold-0/validation/scores.json"))
    assert {row["label"] for row in json.loads(scores.read_text())["rows"]} == {"near", "far"}
