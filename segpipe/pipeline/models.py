"""Trained models, from what a user names to what computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segpipe.backend import Device, select
from segpipe.config import Config
from segpipe.model.bundle import Bundle, load_bundle, load_network, load_priors
from segpipe.predict.case import Model, check_ensemble
from segpipe.predict.engines import choose_engine, make_engine
from segpipe.volume import Volume


@dataclass(frozen=True)
class Loaded:
    """Models ready to compute, where they came from, and the first one's lesion frequencies."""

    folders: tuple[Path, ...]
    models: tuple[Model, ...]
    device: Device
    engine: str
    priors: Mapping[str, Volume] = field(default_factory=dict)

    @property
    def bundle(self) -> Bundle:
        """The first bundle: labels, channels and regions are the same in all of them."""
        return self.models[0].bundle

    def describe(self) -> dict[str, Any]:
        """The ``bundle`` part of ``predict.json``."""
        first = self.bundle
        return {
            "name": " + ".join(model.bundle.name for model in self.models),
            "path": str(self.folders[0].absolute()),
            "weights_sha256": "+".join(model.bundle.weights_sha256 for model in self.models),
            "config_digest": first.config_digest,
            "source_revision": first.source_revision,
            "created": first.created,
            "channels": list(first.plan.channels),
            "labels": dict(first.plan.labels),
        }


def bundle_folder(name: str, output: Path) -> Path:
    """The folder of a bundle: itself, or what ``models:/…`` stands for in the registry."""
    if not name.startswith("models:"):
        return Path(name)
    from segpipe.tracking import resolve

    return resolve(name, output)


def load_models(
    names: Sequence[str], output: Path, *, engine: str, config: Config | None = None
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
        Whose device settings, overlap and batch hold; None: the first bundle's.

    Raises
    ------
    ModelError
        If a bundle is unusable, or several do not belong together.
    ConfigError
        If the engine or backend is not installed.
    """
    folders = tuple(bundle_folder(name, output) for name in names)
    bundles = [load_bundle(folder) for folder in folders]
    check_ensemble(bundles)
    settings = config or bundles[0].config
    device = select(
        settings.backend,
        settings.train.device if config is not None else "auto",
        settings.train.precision,
        settings.train.deterministic,
        settings.train.seed,
    )
    chosen = choose_engine(engine, device.kind, device.backend)
    models = []
    for folder, bundle in zip(folders, bundles, strict=True):
        network = inference_network(load_network(folder, bundle))
        run = make_engine(chosen, network, settings.predict.batch)
        models.append(Model(bundle, run, settings.predict.overlap, settings.predict.batch))
    return Loaded(folders, tuple(models), device, chosen, load_priors(folders[0], bundles[0]))


def inference_network(network):
    """The network without the outputs that only deep supervision needs."""
    from segpipe.model.unet import finest

    return finest(network) if len(network.outputs) > 1 else network
