"""What every MLflow run says of itself: which data, code, configuration and anatomy made it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from segpipe.config import Config, digest, dump
from segpipe.data.layouts import Dataset
from segpipe.pipeline.provenance import Source, environment, source
from segpipe.pipeline.runs import CHANGES_NO_FIGURE

EVALUATION_LINKS = {
    "cohort report": "cohort.html",
    "model card": "model-card.html",
    "patient reports": "reports",
    "scores and components": "evaluation",
}
FOLD_LINKS = {**EVALUATION_LINKS, "pictures by epoch": "images"}

_SHORT = 12


@dataclass(frozen=True)
class Origin:
    """What a number came from.

    Parameters
    ----------
    config : Config
    dataset : Dataset
    dataset_digest : str
        SHA-256 of the manifest.
    code : Source
    device : str
        What computed; empty where several did.
    """

    config: Config
    dataset: Dataset
    dataset_digest: str
    code: Source
    device: str = ""

    @classmethod
    def here(
        cls, config: Config, dataset: Dataset, dataset_digest: str, device: str = ""
    ) -> Origin:
        """With the code that is running."""
        return cls(config, dataset, dataset_digest, source(), device)

    def facts(self) -> dict[str, str]:
        """Data, code, configuration and anatomy in a few words each."""
        cases = len(self.dataset.cases) + len(self.dataset.test_cases)
        data = f"{self.dataset.name}, {cases} cases, {self.dataset_digest[:_SHORT]}"
        return {
            "data": data,
            "code": code_in_words(self.code),
            "config": digest(self.config)[:_SHORT],
            "anatomy": anatomy_in_words(self.config),
        }

    def tags(self, note: str) -> dict[str, str]:
        """Tags of a run that this origin made."""
        from segpipe.tracking import standard_tags

        code = self.code
        tags = standard_tags(note, revision=code.revision, dirty=code.dirty, device=self.device)
        return {**tags, "config.sha256": digest(self.config), **self.facts()}

    def describe(
        self,
        run: Any,
        note: str,
        links: dict[str, str],
        *,
        context: str = "training and validation",
    ) -> None:
        """Dataset, resolved configuration, installed packages and a description with links.

        Parameters
        ----------
        run : segpipe.tracking.Run
        note : str
            What the run is.
        links : dict of str to str
            Title to artifact.
        context : str
            What the dataset's cases are to the run.
        """
        from segpipe.tracking import run_note

        cases = len(self.dataset.cases) + len(self.dataset.test_cases)
        run.dataset(self.dataset.name, self.dataset_digest, cases, context)
        run.log_text(dump(self.config), "config.yaml")
        run.log_text(environment(), "environment.txt")
        whole = {
            **self.facts(),
            "data, SHA-256": self.dataset_digest,
            "config, SHA-256": digest(self.config),
        }
        where = {"configuration": "config.yaml", "packages": "environment.txt", **links}
        run.tags({"mlflow.note.content": run_note(note, whole, where, run)})


@contextlib.contextmanager
def track_evaluation(
    config: Config, dataset: Dataset, dataset_digest: str, split: str, fold: int | None
) -> Iterator[tuple[str, list[Any]]]:
    """A run of its own for an evaluation; yields its id and its observers.

    Without tracking an id is drawn and nobody observes.
    """
    if not config.tracking.enabled:
        yield uuid.uuid4().hex, []
        return
    from segpipe.tracking import Store

    store = Store(config.output)
    cases = (*dataset.cases, *dataset.test_cases)
    store.identifiers.add([case.id for case in cases] + [case.patient for case in cases])
    which = "all folds" if fold is None else f"fold {fold}"
    origin = Origin.here(config, dataset, dataset_digest)
    note = f"Evaluation of {config.name}, {which}, on {split} cases."
    with store.run(config.name, f"evaluation, {split}, {which}", tags=origin.tags(note)) as run:
        run.params(settings_of(config))
        origin.describe(run, note, EVALUATION_LINKS, context=split)
        yield run.run_id, [run]


def settings_of(config: Config) -> dict[str, Any]:
    """The configuration as parameters, less what changes no figure."""
    from segpipe.tracking import flatten

    return {k: v for k, v in flatten(config).items() if not k.startswith(CHANGES_NO_FIGURE)}


def code_in_words(code: Source) -> str:
    """Version and revision of the code.

    Examples
    --------
    >>> code_in_words(Source("0.1.0", "0123456789abcdef", True))
    '0.1.0 at 0123456789ab, changed'
    >>> code_in_words(Source("0.1.0", None, None))
    '0.1.0, no checkout'
    """
    if code.revision is None:
        return f"{code.version}, no checkout"
    return f"{code.version} at {code.revision[:_SHORT]}" + (", changed" if code.dirty else "")


def anatomy_in_words(config: Config) -> str:
    """Regions with the weight of a false-positive voxel in each."""
    regions = config.anatomy.regions
    return ", ".join(f"{region.name} ×{region.weight:g}" for region in regions) or "none"
