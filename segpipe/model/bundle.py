"""A trained model on disk: weights plus JSON; no code, no pickle.

The folder holds ``bundle.json`` and ``weights.npz``, and ``prior_REGION.nii.gz`` where a region
comes from lesion frequency; that of an ensemble holds ``bundle.json`` and a folder per member
(:mod:`segpipe.model.ensemble`). The network is rebuilt from the validated configuration; weights
and priors load only when their SHA-256 is the one that the JSON names.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

import segpipe
from segpipe import geometry
from segpipe.config import Config, EvaluateConfig, OperatingPoint, digest_values
from segpipe.config.fields import Axis, Name, Section
from segpipe.errors import ModelError
from segpipe.files import write_bytes, write_text
from segpipe.model.arrays import assign_arrays, network_arrays, pack_arrays, unpack_arrays
from segpipe.model.facts import BUNDLE_FILE, WEIGHTS_FILE, DatasetFacts, FittingFacts, Member
from segpipe.prepare import PreparePlan
from segpipe.prepare.profile import ProfileRange


class Bundle(Section):
    """Everything that prediction and reports need to know of a trained model.

    An ensemble has ``members``; its ``weights_sha256`` are theirs, joined by ``+``, and its
    ``config`` and ``plan`` are those of the first. ``intensity_range`` has a range per channel;
    bundles from before it was recorded have none, and no ``fitting``, as ensembles whose members
    differ in it. ``precision`` is the Keras dtype policy that it was trained in; None: not
    recorded, or an ensemble, whose members have their own. ``mirror_axes`` and ``overlap`` are the
    test-time mirroring and the overlap of tiles that the operating point was chosen with; None:
    those of the configuration.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=()
    )

    schema_: Literal[1] = Field(1, alias="schema")
    name: str
    segpipe: str
    created: str
    source_revision: str | None
    dirty: bool | None
    config: Config
    config_digest: str
    plan: PreparePlan
    operating_point: OperatingPoint
    dataset: DatasetFacts
    spacing_range_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    intensity_range: tuple[ProfileRange, ...] = ()
    fitting: FittingFacts | None = None
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] | None = None
    validation: dict[str, Any] | None = None
    weights_sha256: str
    priors_sha256: dict[Name, str] = Field({})
    mirror_axes: tuple[Axis, ...] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] | None = None
    members: tuple[Member, ...] = ()

    @model_validator(mode="after")
    def _weights_are_those_of_the_members(self) -> Bundle:
        joined = "+".join(member.weights_sha256 for member in self.members)
        if self.members and self.weights_sha256 != joined:
            raise ValueError("weights_sha256: expected those of the members, joined by +")
        return self

    @field_validator("validation")
    @classmethod
    def _counted_in_a_way_that_there_is(
        cls, validation: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        counting = (validation or {}).get("counting")
        if counting is not None:
            try:
                EvaluateConfig.model_validate(counting)
            except ValidationError as error:
                why = error.errors()[0]
                place = ".".join(map(str, why["loc"]))
                raise ValueError(f"counting, {place}: {why['msg']}") from None
        return validation

    @property
    def mirrored(self) -> tuple[Axis, ...]:
        """Axes of test-time mirroring that belong to the operating point."""
        return self.config.predict.mirror_axes if self.mirror_axes is None else self.mirror_axes

    @property
    def overlapped(self) -> float:
        """Overlap of tiles that belongs to the operating point."""
        return self.config.predict.overlap if self.overlap is None else self.overlap

    @property
    def selected(self) -> bool:
        """Whether the cases that it held out chose its weights."""
        began = self.fitting is not None and self.fitting.began_selected is True
        return self.config.train.chooses_weights or began

    @property
    def counting(self) -> dict[str, Any]:
        """Rule, connectivity and minimum size that belong to the operating point."""
        return (self.validation or {}).get("counting") or self.config.evaluate.counting

    @property
    def outputs(self) -> int:
        """Channels of the network's output: 1, or background and every label."""
        labels = len(self.plan.labels)
        return 1 if labels == 1 else labels + 1

    @property
    def slice_axis(self) -> int | None:
        """2-D networks: the axis across the slices, in prepared orientation."""
        return slice_axis(self.config, self.plan)

    def build(self):
        """The network, with fresh weights."""
        return build_network(self.config, self.plan)


def slice_axis(config: Config, plan: PreparePlan) -> int | None:
    """The axis across the slices of 2-D networks, None for 3-D ones."""
    if config.model.dimensions == 3:
        return None
    if config.model.slice_axis is not None:
        return geometry.AXES.index(config.model.slice_axis)
    return geometry.slice_axis(plan.spacing_mm)


def network_spacing(config: Config, plan: PreparePlan) -> list[float]:
    """Spacing in mm along the axes of the network: of a 2-D one, those within its slices."""
    across = slice_axis(config, plan)
    return [s for axis, s in enumerate(plan.spacing_mm) if axis != across]


def build_network(config: Config, plan: PreparePlan):
    """The U-Net that a configuration and a prepare plan describe."""
    from segpipe.model.unet import build_unet

    labels = len(plan.labels)
    return build_unet(
        config.model,
        config.train.patch,
        network_spacing(config, plan),
        channels=len(plan.channels),
        outputs=1 if labels == 1 else labels + 1,
    )


def save_weights(folder: Path, network) -> str:
    """Write ``weights.npz``; returns its SHA-256."""
    content = pack_arrays(network_arrays(network))
    write_bytes(folder / WEIGHTS_FILE, content)
    return hashlib.sha256(content).hexdigest()


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write ``bundle.json``; the weights must be there already.

    Where the file is of an earlier version, its configuration stays as it was written: the digest
    is that of those settings.
    """
    content = bundle.model_dump(mode="json", by_alias=True)
    try:
        before = json.loads((folder / BUNDLE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if _unchanged(before) and before["config_digest"] == bundle.config_digest:
        content["config"] = before["config"]
    write_text(folder / BUNDLE_FILE, json.dumps(content, indent=1, ensure_ascii=False))


def load_bundle(folder: Path) -> Bundle:
    """Read and validate ``bundle.json``.

    Settings that are newer than the bundle take their defaults. The digest of the configuration is
    that of what the file says, so new settings do not break old bundles, and changed ones are seen.

    Raises
    ------
    ModelError
        If the folder is no bundle, its JSON does not validate, or its configuration is not that
        which it was written with.
    """
    path = Path(folder) / BUNDLE_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{folder}: expected a bundle with {BUNDLE_FILE} and {WEIGHTS_FILE}; received "
            f"{error}. Give the bundle folder of a finished training, or models:/NAME@champion."
        ) from error
    except ValueError as error:
        raise ModelError(
            f"{path}: expected a valid bundle; received no JSON: {error}. It is damaged; take an "
            "intact copy."
        ) from error
    intact = _unchanged(stored)
    try:
        bundle = Bundle.model_validate_json(json.dumps(stored))
    except ValidationError as error:
        raise ModelError(f"{path}: {_refusal(error.errors()[0], stored, intact)}") from error
    if not intact:
        raise ModelError(
            f"{path}: expected configuration digest {bundle.config_digest}; received "
            f"{digest_values(stored['config'])}. The configuration was changed after training; "
            "take an intact copy."
        )
    return bundle


def _unchanged(stored: Any) -> bool:
    """Whether the configuration is as it was written, over what the file says and no defaults."""
    return (
        isinstance(stored, dict)
        and "config" in stored
        and stored.get("config_digest") == digest_values(stored["config"])
    )


def _refusal(problem: Any, stored: Any, intact: bool) -> str:
    """What does not validate, and whether another version or a change of the file is to blame."""
    place = problem["loc"]
    told = f"{problem['msg']} at {'.'.join(str(part) for part in place)}"
    another = place[:1] == ("config",) or problem["type"] in (
        "extra_forbidden",
        "missing",
        "literal_error",
    )
    if intact and another:
        source = stored.get("source_revision")
        maker = f"{stored.get('segpipe')}" + (f" (source {source})" if source else "")
        return (
            f"expected a bundle as segpipe {segpipe.__version__} writes it; received {told}. It "
            f"was made by segpipe {maker}, with other settings; use that version, or train again."
        )
    return (
        f"expected a valid bundle; received {told}. It is damaged or was changed after training; "
        "take an intact copy."
    )


def load_network(folder: Path, bundle: Bundle):
    """Rebuild the network and load its weights.

    Raises
    ------
    ModelError
        If the weights are missing, damaged, or belong to another network, or if the bundle is an
        ensemble.
    """
    if bundle.members:
        raise ModelError(
            f"{folder}: expected a bundle of one network; received an ensemble of "
            f"{len(bundle.members)}. Give one of its members, such as {folder}/member-0."
        )
    path = Path(folder) / WEIGHTS_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: expected the weights; received {error}.") from error
    received = hashlib.sha256(content).hexdigest()
    if received != bundle.weights_sha256:
        raise ModelError(
            f"{path}: expected SHA-256 {bundle.weights_sha256}; received {received}. The file is "
            "damaged or was exchanged; take an intact copy."
        )
    try:
        arrays = unpack_arrays(content)
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: expected arrays in an .npz file; received {error}.") from error
    network = bundle.build()
    assign_arrays(network, arrays, str(path))
    return network
