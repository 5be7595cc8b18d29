"""Trained models, from what a user names to what computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.backend import Device, computing_in, possible_precision, select
from segpipe.config import Config, override
from segpipe.data.layouts import Case
from segpipe.errors import ConfigError, DataError, ModelError
from segpipe.geometry import AXES
from segpipe.model.bundle import Bundle, load_bundle, load_network
from segpipe.model.ensemble import check_members, open_members
from segpipe.model.priors import load_priors
from segpipe.predict.case import Model
from segpipe.predict.engines import choose_engine, make_engine
from segpipe.prepare.keys import scan_mark
from segpipe.volume import Volume

ADJUSTABLE = (
    "data.repair_nan",
    "data.max_voxels",
    "data.grid_tolerance_mm",
    "predict.batch",
    "predict.strict",
)
"""Settings of a bundle that a prediction may change: how scans are read, and what memory holds."""


@dataclass(frozen=True)
class Loaded:
    """Models ready to compute, and where they came from.

    Parameters
    ----------
    folders : tuple of Path
        As the user named them.
    bundles : tuple of Bundle
        Their descriptions; labels, channels and regions are the same in all of them.
    models : tuple of Model
        Every network: one for each bundle, all members for an ensemble.
    device : Device
        Its precision is that of the networks: several are joined by +.
    engine : str
    settings : Config
        How scans are read and computed on this machine.
    priors : mapping of str to Volume
        Lesion frequencies of the first network.
    """

    folders: tuple[Path, ...]
    bundles: tuple[Bundle, ...]
    models: tuple[Model, ...]
    device: Device
    engine: str
    settings: Config
    priors: Mapping[str, Volume] = field(default_factory=dict)

    @property
    def bundle(self) -> Bundle:
        """The first bundle: its operating point holds."""
        return self.bundles[0]

    @property
    def mirror_axes(self) -> list[str]:
        """Axes of test-time mirroring, the same for all models."""
        return list(self.models[0].mirror_axes)

    @property
    def selected(self) -> bool:
        """Whether the cases that a network held out chose its weights."""
        return any(model.bundle.selected for model in self.models)

    @property
    def trained_otherwise(self) -> str | None:
        """The precision of training, where this device predicts in another; None: it does not."""
        trained = [model.bundle.precision for model in self.models]
        if None in trained or _joined(trained) == self.device.precision:
            return None
        return _joined(trained)

    def trained_on(self, case: Case) -> bool:
        """Whether a scan is known to one of the networks; not of one that cannot be read."""
        try:
            mark = scan_mark(case)
        except DataError:
            return False
        return any(model.bundle.dataset.saw(mark) for model in self.models)

    def described(self) -> Loaded:
        """The same without networks and priors, whose memory is then free: it predicts no more."""
        models = tuple(replace(model, engine=_let_go) for model in self.models)
        return replace(self, models=models, priors={})

    def describe(self) -> dict[str, Any]:
        """The ``bundle`` part of ``predict.json``."""
        first = self.bundle
        return {
            "name": " + ".join(bundle.name for bundle in self.bundles),
            "path": str(self.folders[0].absolute()),
            "weights_sha256": "+".join(bundle.weights_sha256 for bundle in self.bundles),
            "networks": len(self.models),
            "config_digest": first.config_digest,
            "source_revision": first.source_revision,
            "created": first.created,
            "channels": list(first.plan.channels),
            "labels": dict(first.plan.labels),
            "regions": [
                {"name": region.name, "source": region.source, "weight": region.weight}
                for region in first.config.anatomy.regions
            ],
        }


def _let_go(tiles: np.ndarray) -> np.ndarray:
    raise RuntimeError("the network was let go after its cases were predicted")


def _joined(precisions: Sequence[str | None]) -> str:
    return " + ".join(dict.fromkeys(str(one) for one in precisions))


def bundle_folder(name: str, output: Path) -> Path:
    """The folder of a bundle: itself, or what ``models:/…`` stands for in the registry."""
    if not name.startswith("models:"):
        return Path(name)
    from segpipe.tracking import resolve

    return resolve(name, output)


def load_models(
    names: Sequence[str],
    output: Path,
    *,
    engine: str,
    config: Config | None = None,
    mirror: bool | None = None,
    settings: Sequence[str] = (),
) -> Loaded:
    """Load bundles and make them compute on this machine.

    Parameters
    ----------
    names : sequence of str
        Folders or ``models:/…``, at least one.
    output : Path
        Output folder with the MLflow store.
    engine : {'auto', 'keras', 'openvino'}
    config : Config, optional
        Whose device settings, overlap, batch and mirroring hold; None: the first bundle's, with
        overlap and mirroring as its operating point was chosen. Each network computes in the
        precision that it was trained in where the device can, else in float32; bundles that do
        not record it in that of the device settings.
    mirror : bool, optional
        True: along every axis that all models were trained with. False: not at all. None: as the
        configuration says, or else as the first bundle's operating point was chosen.
    settings : sequence of str
        ``name=value`` of :data:`ADJUSTABLE` instead of the configuration's.

    Raises
    ------
    ModelError
        If a bundle is unusable, or several do not belong together or are one and the same.
    ConfigError
        If the engine or backend is not installed, the models cannot be mirrored, or a setting
        cannot be adjusted.
    """
    folders = tuple(bundle_folder(name, output) for name in names)
    bundles = [load_bundle(folder) for folder in folders]
    networks = [
        member
        for folder, bundle in zip(folders, bundles, strict=True)
        for member in open_members(folder, bundle)
    ]
    check_members([bundle for _, bundle in networks])
    adjusted = _adjusted(config or bundles[0].config, settings)
    axes = _mirror_axes([b for _, b in networks], bundles[0], config, mirror)
    device = select(
        adjusted.backend,
        adjusted.train.device if config is not None else "auto",
        adjusted.train.precision,
        adjusted.train.deterministic,
        adjusted.train.seed,
    )
    chosen = choose_engine(engine, device.kind, device.backend)
    overlap = bundles[0].overlapped if config is None else config.predict.overlap
    models, precisions = [], []
    for folder, bundle in networks:
        precisions.append(possible_precision(device, bundle.precision))
        with computing_in(precisions[-1]):
            network = inference_network(load_network(folder, bundle))
        run = make_engine(chosen, network, adjusted.predict.batch)
        models.append(Model(bundle, run, overlap, adjusted.predict.batch, tuple(axes)))
    device = replace(device, precision=_joined(precisions))
    priors = load_priors(*networks[0])
    return Loaded(folders, tuple(bundles), tuple(models), device, chosen, adjusted, priors)


def _adjusted(config: Config, settings: Sequence[str]) -> Config:
    for setting in settings:
        name = setting.partition("=")[0]
        if name not in ADJUSTABLE:
            raise ConfigError(
                f"--set {setting}: expected one of {', '.join(ADJUSTABLE)}; received {name}. What "
                "else a model was trained with cannot be changed afterwards."
            )
    return override(config, settings)


def _mirror_axes(
    networks: Sequence[Bundle], first: Bundle, config: Config | None, mirror: bool | None
) -> list[str]:
    """Axes of test-time mirroring, if every network saw its patches mirrored along them."""
    seen = [axis for axis in AXES if all(axis in n.config.augment.seen_mirrored for n in networks)]
    if mirror is False:
        return []
    if mirror:
        if not seen:
            raise ConfigError(
                "--mirror: expected bundles that were trained with mirroring; received "
                f"augment.mirror_axes={[list(n.config.augment.seen_mirrored) for n in networks]}. "
                "Predict without."
            )
        return seen
    wanted = first.mirrored if config is None else config.predict.mirror_axes
    unseen = [axis for axis in wanted if axis not in seen]
    if unseen:
        raise ModelError(
            f"mirroring along {list(wanted)}: expected bundles that were trained with it; received "
            f"one that never saw {unseen} mirrored. Use --no-mirror, or predict.mirror_axes={seen}."
        )
    return [axis for axis in AXES if axis in wanted]


def inference_network(network):
    """The network without the outputs that only deep supervision needs."""
    from segpipe.model.unet import finest

    return finest(network) if len(network.outputs) > 1 else network
