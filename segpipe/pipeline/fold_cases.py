"""The cases of a fold, prepared: what it trains on, what it holds out, what is odd about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset
from segpipe.data.splits import Fold
from segpipe.errors import DataError, SegpipeError
from segpipe.files import write_text
from segpipe.observer import Observer
from segpipe.pipeline.prepare import plan_for, prepare_cases, tell_failures, tell_regions
from segpipe.pipeline.priors import fold_priors
from segpipe.prepare import PreparedCase, PreparePlan
from segpipe.volume import Volume


@dataclass(frozen=True)
class FoldCases:
    """A fold and its cases.

    Parameters
    ----------
    fold : Fold
    plan : PreparePlan
    priors : mapping of str to Volume
        The fold's (:func:`~segpipe.pipeline.priors.fold_priors`).
    training, held_out : tuple of PreparedCase
        Those that could be prepared, in the order of the fold; all of ``training`` have references.
    validation : tuple of Case
        All that the fold holds out.
    failed : dict of str to SegpipeError
        Cases that could not be used.
    """

    fold: Fold
    plan: PreparePlan
    priors: Mapping[str, Volume]
    training: tuple[PreparedCase, ...]
    held_out: tuple[PreparedCase, ...]
    validation: tuple[Case, ...]
    failed: dict[str, SegpipeError]

    @property
    def validated(self) -> list[PreparedCase]:
        """Those of ``held_out`` that validations during training score: with a reference."""
        return [case for case in self.held_out if case.reference is not None]


def fold_cases(dataset: Dataset, fold: Fold, config: Config, observer: Observer) -> FoldCases:
    """Prepare the cases of a fold, and tell what failed or looks like a mistake.

    Raises
    ------
    SegpipeError
        If there is nothing to train on, or as :func:`~segpipe.pipeline.prepare.prepare_cases`.
    """
    plan = plan_for(dataset, fold, config)
    wanted = {*fold.train, *fold.validation}
    cases = [case for case in dataset.cases if case.id in wanted]
    priors = fold_priors(dataset, fold, config, observer)
    prepared = prepare_cases(cases, dataset, plan, config, observer, priors)
    ready, failed = prepared.cases, dict(prepared.failed)
    for case_id in fold.train:
        if case_id in ready and ready[case_id].reference is None:
            del ready[case_id]
            failed[case_id] = DataError(
                case_id, "no reference", fix="Add the expert's mask, or leave the case out."
            )
    tell_failures(failed, observer)
    tell_regions(prepared, observer)
    found = FoldCases(
        fold=fold,
        plan=plan,
        priors=priors,
        training=tuple(ready[case_id] for case_id in fold.train if case_id in ready),
        held_out=tuple(ready[case_id] for case_id in fold.validation if case_id in ready),
        validation=tuple(case for case in cases if case.id in set(fold.validation)),
        failed=failed,
    )
    _tell_copies(found, observer)
    if not found.training:
        raise DataError(dataset.root, "no training case could be prepared", fix="See above.")
    _tell_labels_never_held(found, observer)
    return found


def expect_same_training(training: Sequence[PreparedCase], folder: Path, *, resume: bool) -> None:
    """Keep what is trained on; refuse to go on from checkpoints with anything else.

    Raises
    ------
    DataError
        If a resumed training would go on with other scans, masks or region masks.
    """
    path = folder / "prepared.json"
    entries = {case.id: [case.folder.name, case.regions_folder.name] for case in training}
    if resume and path.exists() and any((folder / "checkpoints").glob("*")):
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(k for k in {**before, **entries} if before.get(k) != entries.get(k))
        if changed:
            raise DataError(
                folder,
                "goes on only with the cases and region masks that it began with",
                expected=f"{len(before)} prepared cases",
                received=f"others for {', '.join(changed[:5])}{' …' if len(changed) > 5 else ''}",
                fix="Restore the files, or begin a new run.",
            )
    write_text(path, json.dumps(entries, indent=1))


def _tell_copies(cases: FoldCases, observer: Observer) -> None:
    """Say which held-out scans are trained on as well, under another case id."""
    trained = {case.mark: case.id for case in cases.training}
    copies = [f"{c.id} ({trained[c.mark]})" for c in cases.held_out if c.mark in trained]
    if copies:
        observer.message(
            f"warning: fold {cases.fold.index} holds out scans that it trains on under another id, "
            f"so that validation is too good: {', '.join(copies)}. segpipe check lists such "
            "findings"
        )


def _tell_labels_never_held(cases: FoldCases, observer: Observer) -> None:
    """Say so where the references hold nothing of a label: an export that failed, perhaps."""
    held = {
        value for case in cases.training for value, voxels in case.foreground.items() if len(voxels)
    }
    for index, label in enumerate(cases.plan.labels, start=1):
        if index not in held:
            observer.message(
                f"warning: no training case of fold {cases.fold.index} has a voxel of {label}, "
                "which cannot be learnt so: check how the masks were exported"
            )
