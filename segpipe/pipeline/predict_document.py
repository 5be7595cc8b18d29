"""``predict.json``: what was predicted, by what, at which settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import segpipe
from segpipe.config import OperatingPoint
from segpipe.data.layouts import Case
from segpipe.data.nifti import file_sha256
from segpipe.errors import ConfigError, SegpipeError
from segpipe.files import locked
from segpipe.folders import error_without_folders
from segpipe.journal import Journal, read_journal
from segpipe.pipeline.models import Loaded
from segpipe.pipeline.outputs import case_files
from segpipe.pipeline.points import certificate_void
from segpipe.pipeline.provenance import now
from segpipe.report.document import PREDICT_DOCUMENT

_LOCK = ".predict.lock"


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Be the only process that predicts into a folder, which is made if need be.

    Raises
    ------
    ConfigError
        If another one does, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / _LOCK))
        except BlockingIOError as error:
            raise ConfigError(
                f"-o {folder}: expected a folder that nobody else predicts into; received one that "
                "another segpipe predict is writing. Wait for its end, or give another folder."
            ) from error
        except OSError as error:
            raise ConfigError(
                f"-o {folder}: expected a folder to write to; received {error}. Mend its rights, "
                "or give another folder."
            ) from error
        yield


class PredictDocument:
    """``predict.json``, which keeps every case as it comes, so that a kill loses one at most.

    Between calls of :meth:`write` what is new may lie in the journal beside it. A case whose
    files are being written has the status ``begun``: after a kill they are known as ours, and
    the case is predicted anew.

    Parameters
    ----------
    folder : Path
    loaded : Loaded
    point : OperatingPoint
    connectivity : int
        Of components.
    of_validation : bool
        Whether the cases are those that the bundle's figures are measured on; their reports say so.
    inputs : collection of Path
        Scans: they are never removed, whatever an earlier document names.
    """

    def __init__(
        self,
        folder: Path,
        loaded: Loaded,
        point: OperatingPoint,
        connectivity: int,
        *,
        of_validation: bool = False,
        inputs: Collection[Path] = (),
    ) -> None:
        self.inputs = frozenset(Path(path).resolve() for path in inputs)
        self.path = folder / PREDICT_DOCUMENT
        read = loaded.settings.data
        self.made: dict[str, Any] = {
            "segpipe": segpipe.__version__,
            "created": now(),
            "device": loaded.device.describe(),
            "engine": loaded.engine,
            "certificate_void": certificate_void(loaded, point=None if of_validation else point),
            "max_voxels": read.max_voxels,
            "grid_tolerance_mm": read.grid_tolerance_mm,
        }
        self.head: dict[str, Any] = {
            "schema": 1,
            **self.made,
            "bundle": loaded.describe(),
            "settings": {
                "threshold": point.threshold,
                "min_size_mm3": point.min_size_mm3,
                "core_threshold": point.core_threshold,
                "largest_only": point.largest_only,
                "connectivity": connectivity,
                "overlap": loaded.models[0].overlap,
                "mirror_axes": loaded.mirror_axes,
            },
            "of_validation": of_validation,
        }
        self.cases: dict[str, dict[str, Any]] = {}
        self.journal = Journal(self.path, self.head)

    def keep_earlier(self, *, overwrite: bool, redone: Collection[str] = ()) -> None:
        """Take over the cases of a document that is there already.

        Parameters
        ----------
        overwrite : bool
            Predictions by another bundle or with other settings are removed, files and all.
        redone : collection of str
            The cases that are predicted now.

        Raises
        ------
        ConfigError
            If they were predicted by another bundle or with other settings, and without
            ``overwrite``, or others than ``redone`` are among them: a folder has one kind.
        """
        if not self.path.is_file():
            return
        try:
            earlier = self._earlier()
        except ConfigError:
            if not overwrite:
                raise
            self._take_over_masks(redone)
            return
        made = {key: earlier[key] for key in self.made if key in earlier}
        self.cases = {entry["case"]: {**made, **entry} for entry in earlier["cases"]}
        if self._same(earlier):
            return
        others = sorted(set(self.cases) - set(redone))
        if overwrite and not others:
            self.forget(*self.cases)
            return
        what = f"{self.path.parent}: expected predictions of this bundle and settings; received "
        what += self._differences(earlier)
        if overwrite:
            raise ConfigError(
                f"{what}, among them cases that this call does not predict anew: "
                f"{_shown(others)}. Name their scans too, or give another folder with -o."
            )
        raise ConfigError(f"{what}. Give --overwrite, or another folder with -o.")

    def _take_over_masks(self, redone: Collection[str]) -> None:
        """Make room where a document was that nobody can read: what it knew may be anything."""
        folder = self.path.parent
        others = sorted(
            {file.name.removesuffix(".nii.gz") for file in folder.glob("*.nii.gz")} - set(redone)
        )
        if others:
            raise ConfigError(
                f"{folder}: expected masks of cases that are predicted now, as predict.json cannot "
                f"be read; received others too: {_shown(others)}. Name their scans too, or give "
                "another folder with -o."
            )
        every = {
            case: case_files(case, probabilities=True, uncertainty=True) for case in sorted(redone)
        }
        self._clear(every)

    def _earlier(self) -> dict[str, Any]:
        try:
            earlier = read_journal(self.path)
            self._same(earlier)
            if not all(entry["case"] and entry["status"] for entry in earlier["cases"]):
                raise KeyError("case")
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.path}: expected what segpipe predict wrote; received {error!r}. Give "
                "--overwrite, or another folder with -o."
            ) from error
        return earlier

    def _differences(self, earlier: Mapping[str, Any]) -> str:
        """What is another in an earlier document, and what it is here, in words."""
        theirs, own = earlier["settings"], self.head["settings"]
        told = [
            f"{name} {theirs.get(name)}, now {own.get(name)}"
            for name in dict.fromkeys((*own, *theirs))
            if theirs.get(name) != own.get(name)
        ]
        if earlier["bundle"]["weights_sha256"] != self.head["bundle"]["weights_sha256"]:
            told.insert(0, f"those of another model ({earlier['bundle']['name']})")
        return "; ".join(told)

    def _same(self, earlier: Mapping[str, Any]) -> bool:
        weights = earlier["bundle"]["weights_sha256"], self.head["bundle"]["weights_sha256"]
        return earlier["settings"] == self.head["settings"] and weights[0] == weights[1]

    def begin(self, case: str, files: Mapping[str, str | None]) -> None:
        """Keep that files of a case are to be written; those that it had are removed."""
        earlier = (self.cases.get(case) or {}).get("files") or {}
        self._clear({case: {**earlier, **{name: file for name, file in files.items() if file}}})

    def forget(self, *cases: str) -> None:
        """Remove the files of cases, and take them out of the document."""
        known = {case: self.cases[case].get("files") or {} for case in cases if case in self.cases}
        if not known:
            return
        self._clear(known)
        for case in known:
            del self.cases[case]
        self.journal.change(self.cases, *known)

    def _clear(self, files: Mapping[str, Mapping[str, str | None]]) -> None:
        """Keep that cases are not done, then remove their files: never the other way round."""
        for case, own in files.items():
            self.cases[case] = {"case": case, "status": "begun", "files": dict(own)}
        self.journal.change(self.cases, *files)
        folder = self.path.parent.resolve()
        for own in files.values():
            for name in own.values():
                path = folder / (name or "")
                place = path.resolve()
                if name and place.is_relative_to(folder) and place not in self.inputs:
                    path.unlink(missing_ok=True)

    def skip(
        self, case: Case, wanted: Sequence[str] = (), regions: Mapping[str, str] | None = None
    ) -> bool:
        """Whether the case is done, with all files that are wanted.

        Its entry then says so, and where its scans lie now.

        ``regions`` are digests of the region files that it should have been done with; None:
        whatever it was done with.

        Raises
        ------
        ConfigError
            If another scan was predicted under this id.
        DataError
            If its files cannot be used.
        """
        entry = self.cases.get(case.id)
        if entry is None or entry["status"] in ("failed", "begun"):
            return False
        case.require_files()
        known = [channel["sha256"] for channel in entry["channels"]]
        if known != [file_sha256(channel.path) for channel in case.channels]:
            raise ConfigError(
                f"{self.path.parent}: another scan was predicted as {case.id}. Give --overwrite, "
                "or another folder with -o."
            )
        files = entry["files"]
        if not all((self.path.parent / f).is_file() for f in files.values() if f):
            return False
        if not all(files.get(name) for name in wanted):
            return False
        if regions is not None and regions != entry.get("region_files", {}):
            return False
        channels = [
            {**channel, "path": str(now.path.absolute())}
            for channel, now in zip(entry["channels"], case.channels, strict=True)
        ]
        self.cases[case.id] = {**entry, "status": "skipped", "channels": channels}
        return True

    def add(self, entry: dict[str, Any]) -> None:
        """Add or replace a case, with when and by what it was made, and keep it."""
        case = entry["case"]
        self.cases[case] = {**entry, **self.made, "created": now()}
        self.journal.change(self.cases, case)

    def fail(self, case: Case, error: SegpipeError, seconds: float) -> None:
        """Add a case that could not be predicted."""
        channels = [{"path": str(c.path.absolute()), "index": c.index} for c in case.channels]
        entry = {"case": case.id, "status": "failed", "channels": channels}
        told = error_without_folders(error, case.files)
        self.add({**entry, "flags": [], "seconds": round(seconds, 2), "error": told})

    def write(self) -> None:
        """Write the file whole."""
        self.journal.write(self.cases)


def _shown(cases: Sequence[str]) -> str:
    return ", ".join(cases[:10]) + (", …" if len(cases) > 10 else "")
