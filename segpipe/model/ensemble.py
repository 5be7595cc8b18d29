"""Several trained models as one bundle.

The folder holds ``bundle.json`` and every member's own bundle in ``member-0``, ``member-1``, …
Members load only when the SHA-256 of their two files are those that the ensemble names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

import segpipe
from segpipe.config import OperatingPoint
from segpipe.errors import ModelError
from segpipe.files import UMASK, file_sha256, temporary_folder, write_bytes
from segpipe.model.bundle import Bundle, load_bundle, save_bundle
from segpipe.model.facts import BUNDLE_FILE, WEIGHTS_FILE, DatasetFacts, Member
from segpipe.prepare.profile import ProfileRange

NOT_ITS_OWN = (
    "the figures are those of the members, each on cases that it held out; those of the ensemble "
    "were not measured on these cases, as every one of them was trained on by a member"
)


def check_members(bundles: Sequence[Bundle]) -> None:
    """Refuse models that do not answer the same question, or that are one and the same.

    Raises
    ------
    ModelError
        If their labels, channels or regions differ, or two have the same weights.
    """
    first = bundles[0]
    for other in bundles[1:]:
        for what, mine, theirs in (
            ("labels", dict(first.plan.labels), dict(other.plan.labels)),
            ("channels", first.plan.channels, other.plan.channels),
            ("regions", first.plan.regions, other.plan.regions),
        ):
            if mine != theirs or list(mine) != list(theirs):  # the order of labels is theirs too
                raise ModelError(
                    f"bundles: expected the {what} of {first.name}, {mine}, in all of them; "
                    f"received {theirs} in {other.name}. Put bundles of one task together."
                )
    weights = [bundle.weights_sha256 for bundle in bundles]
    twice = sorted({b.name for b in bundles if weights.count(b.weights_sha256) > 1})
    if twice:
        raise ModelError(
            "bundles: expected different networks; received the same weights twice "
            f"({', '.join(twice)}). Give each bundle once."
        )


def open_members(folder: Path, bundle: Bundle) -> list[tuple[Path, Bundle]]:
    """Folder and description of each network: the members of an ensemble, or the bundle itself.

    Raises
    ------
    ModelError
        If a member is missing, damaged or was exchanged.
    """
    if not bundle.members:
        return [(folder, bundle)]
    members = []
    for index, expected in enumerate(bundle.members):
        place = _member_folder(folder, index)
        try:
            received = file_sha256(place / BUNDLE_FILE)
        except OSError as error:
            raise ModelError(f"{place}: expected a member's bundle; received {error}.") from error
        member = load_bundle(place)
        same_weights = member.weights_sha256 == expected.weights_sha256
        if received != expected.bundle_sha256 or not same_weights:
            raise ModelError(
                f"{place / BUNDLE_FILE}: expected SHA-256 {expected.bundle_sha256}; received "
                f"{received}. The file is damaged or was exchanged; take an intact copy of the "
                "ensemble."
            )
        members.append((place, member))
    return members


def save_ensemble(folder: Path, sources: Sequence[Path], created: str) -> Bundle:
    """Copy bundles into one.

    Parameters
    ----------
    folder : Path
        New or empty.
    sources : sequence of Path
        Bundles; of an ensemble among them, the members are taken. Two networks at least.
    created : str
        Date and time.

    Returns
    -------
    Bundle
        Its operating point and figures are those of the members where all have the same, as after
        ``segpipe evaluate --fold all``; else the configuration's, without figures.

    Raises
    ------
    ModelError
        If the bundles do not belong together, or the folder is in use.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder}: expected a new or empty folder; received one in use.")
    opened = [(source, load_bundle(source)) for source in sources]
    members = list(chain.from_iterable(open_members(source, one) for source, one in opened))
    bundles = [member for _, member in members]
    if len(members) < 2:
        raise ModelError(
            "ensemble: expected two or more different networks; received one. Give other seeds or "
            "folds too."
        )
    check_members(bundles)
    for source, member in members:
        _check_weights(source, member)
    digests = [file_sha256(source / BUNDLE_FILE) for source, _ in members]
    ensemble = _describe(bundles, digests, created)
    with temporary_folder(folder.parent) as made:
        for index, (source, member) in enumerate(members):
            priors = [f"prior_{region}.nii.gz" for region in member.priors_sha256]
            for file in (WEIGHTS_FILE, *priors, BUNDLE_FILE):
                write_bytes(_member_folder(made, index) / file, (source / file).read_bytes())
        save_bundle(made, ensemble)
        made.chmod(0o777 & ~UMASK)
        os.replace(made, folder)  # only now there is anything: a kill leaves no half
    return ensemble


def renew_ensemble(folder: Path, bundles: Sequence[Bundle]) -> bool:
    """Give an ensemble the operating point and figures that its members have in common by now.

    The members' own descriptions in it stay as they are: its point is the one that counts.

    Parameters
    ----------
    folder : Path
    bundles : sequence of Bundle
        Descriptions of its members, in order.

    Returns
    -------
    bool
        False, and nothing changes, where there is no ensemble of these or they have none in common.
    """
    point, validation = _common_point(bundles)
    if validation is None or not (folder / BUNDLE_FILE).is_file():
        return False
    ensemble = load_bundle(folder)
    if [member.weights_sha256 for member in ensemble.members] != [
        bundle.weights_sha256 for bundle in bundles
    ]:
        return False
    first = bundles[0]
    chosen = {
        "operating_point": point,
        "validation": validation,
        "mirror_axes": first.mirrored,
        "overlap": first.overlapped,
    }
    save_bundle(folder, ensemble.model_copy(update=chosen))
    return True


def _describe(bundles: Sequence[Bundle], digests: Sequence[str], created: str) -> Bundle:
    first = bundles[0]
    spans = np.array([bundle.spacing_range_mm for bundle in bundles])
    point, validation = _common_point(bundles)
    return Bundle(
        name=f"{first.config.name}-ensemble",
        segpipe=segpipe.__version__,
        created=created,
        source_revision=first.source_revision,
        dirty=first.dirty,
        config=first.config,
        config_digest=first.config_digest,
        plan=first.plan,
        operating_point=point,
        dataset=_facts(bundles),
        spacing_range_mm=(tuple(spans[:, 0].min(axis=0)), tuple(spans[:, 1].max(axis=0))),
        intensity_range=_intensities(bundles),
        fitting=first.fitting if len({bundle.fitting for bundle in bundles}) == 1 else None,
        validation=validation,
        weights_sha256="+".join(bundle.weights_sha256 for bundle in bundles),
        mirror_axes=first.mirrored,
        overlap=first.overlapped,
        members=tuple(
            Member(
                name=bundle.name,
                fold=bundle.dataset.fold,
                seed=bundle.config.train.seed,
                bundle_sha256=sha256,
                weights_sha256=bundle.weights_sha256,
            )
            for bundle, sha256 in zip(bundles, digests, strict=True)
        ),
    )


def _intensities(bundles: Sequence[Bundle]) -> tuple[ProfileRange, ...]:
    """Of every channel what all members together were trained on; none if one does not know."""
    if not all(bundle.intensity_range for bundle in bundles):
        return ()
    channels = zip(*(bundle.intensity_range for bundle in bundles), strict=True)
    return tuple(first.joined(*others) for first, *others in channels)


def _common_point(bundles: Sequence[Bundle]) -> tuple[OperatingPoint, dict | None]:
    """The operating point and figures that all members share, if they do."""
    first = bundles[0]
    shared = first.validation is not None and all(
        other.operating_point == first.operating_point
        and other.validation == first.validation
        and other.mirrored == first.mirrored
        and other.overlapped == first.overlapped
        for other in bundles[1:]
    )
    if not shared or first.validation is None:
        return first.config.predict.operating_point, None
    reason = f"{first.validation.get('operating_point')}; {NOT_ITS_OWN}"
    return first.operating_point, {**first.validation, "operating_point": reason}


def _facts(bundles: Sequence[Bundle]) -> DatasetFacts:
    """What was trained on, by one member or another."""
    marks = tuple(sorted({mark for bundle in bundles for mark in bundle.dataset.marks}))
    chose = tuple(sorted({mark for bundle in bundles for mark in bundle.dataset.chose}))
    earlier = tuple(dict.fromkeys(one for b in bundles for one in b.dataset.earlier))
    known = {"marks": marks, "chose": chose, "earlier": earlier}
    every = [bundle.dataset.model_copy(update=known) for bundle in bundles]
    facts = list(dict.fromkeys(every))
    first = facts[0]
    one_dataset = len({fact.digest for fact in facts}) == 1
    held_out = {(b.dataset.fold, b.config.split, b.config.data.patient_pattern) for b in bundles}
    if one_dataset and len(held_out) == 1:
        return first.model_copy(update={"training_cases": max(f.training_cases for f in facts)})
    if one_dataset:  # what a fold held out, the others trained on
        cases = max(fact.training_cases + fact.validation_cases for fact in facts)
        update = {"training_cases": cases, "validation_cases": 0, "fold": None}
        return first.model_copy(update=update)
    return DatasetFacts(
        name=" + ".join(dict.fromkeys(fact.name for fact in facts)),
        digest="+".join(dict.fromkeys(fact.digest for fact in facts)),
        training_cases=sum(fact.training_cases for fact in facts),
        validation_cases=0,
        marks=marks,
    )


def _check_weights(folder: Path, bundle: Bundle) -> None:
    path = folder / WEIGHTS_FILE
    try:
        received = file_sha256(path)
    except OSError as error:
        raise ModelError(f"{path}: expected the weights; received {error}.") from error
    if received != bundle.weights_sha256:
        raise ModelError(
            f"{path}: expected SHA-256 {bundle.weights_sha256}; received {received}. The file is "
            "damaged or was exchanged; take an intact copy."
        )


def _member_folder(folder: Path, index: int) -> Path:
    return Path(folder) / f"member-{index}"
