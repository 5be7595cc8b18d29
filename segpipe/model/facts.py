"""What a bundle tells of its training, and of the members of an ensemble."""

from __future__ import annotations

from segpipe.config import digest_values
from segpipe.config.fields import Section

BUNDLE_FILE = "bundle.json"
WEIGHTS_FILE = "weights.npz"


class Marks(Section):
    """Marks of the scans of one training, as in :class:`DatasetFacts`."""

    digest: str
    marks: tuple[str, ...]
    chose: tuple[str, ...] = ()


class DatasetFacts(Section):
    """What the model was trained on, without any patient.

    ``marks`` tell whether a scan that is at hand was among the training cases, and nothing of one
    that is not (:meth:`mark`); ``chose`` likewise of the held-out cases, where their validations
    chose its weights. Bundles from before they were kept have none. ``earlier`` has those of the
    trainings that its weights began from.
    """

    name: str
    digest: str
    training_cases: int
    validation_cases: int
    fold: int | None = None
    marks: tuple[str, ...] = ()
    chose: tuple[str, ...] = ()
    earlier: tuple[Marks, ...] = ()

    @property
    def trainings(self) -> tuple[Marks, ...]:
        """Marks of all trainings that the weights have behind them."""
        return (Marks(digest=self.digest, marks=self.marks, chose=self.chose), *self.earlier)

    def saw(self, scan: str) -> bool:
        """Whether a scan, by :func:`segpipe.prepare.keys.scan_mark`, was trained on."""
        return any(self.mark(one.digest, scan) in one.marks for one in self.trainings)

    def chosen_by(self, scan: str) -> bool:
        """Whether a validation on a scan, by the same mark, helped to choose the weights."""
        return any(self.mark(one.digest, scan) in one.chose for one in self.trainings)

    @staticmethod
    def mark(digest: str, scan: str) -> str:
        """The mark of a scan in a dataset of this digest: the same scan has others elsewhere."""
        return digest_values([digest, scan])[:16]


class FittingFacts(Section):
    """How long the network was fitted.

    ``steps`` are fewer than ``planned`` where validation no longer improved. ``seconds`` and
    ``shortened``, whether more steps were planned at first, are of a training with a budget; None
    of others. ``began_selected``: whether the weights that it began from were chosen on a case
    that is held out here too; None: they were not, as far as is known.
    """

    steps: int
    planned: int
    seconds: float | None = None
    shortened: bool | None = None
    began_selected: bool | None = None


class Member(Section):
    """A network of an ensemble, and the SHA-256 of its two files."""

    name: str
    fold: int | None
    seed: int
    bundle_sha256: str
    weights_sha256: str
