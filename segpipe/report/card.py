"""The model card: what a model is, for whom, how good, and where it fails.

Sections after Mitchell et al. 2019 (Model Cards for Model Reporting, doi:10.1145/3287560.3287596);
entries after the items of CLAIM (Mongan et al. 2020, doi:10.1148/ryai.2020200029). Nothing is
invented: what neither the bundle nor the configuration knows is said to be not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.config import CardConfig
from segpipe.report.cohort_label import FIGURES
from segpipe.report.figures import share
from segpipe.report.page import BANNER, render
from segpipe.report.wording import (
    count,
    interval,
    number,
    region_name,
    sensitivity_interval_in_words,
    size_range,
)

NOT_RECORDED = "Not recorded."


@dataclass(frozen=True)
class CardFacts:
    """What a card tells besides the sentences of ``card`` in the configuration.

    Parameters
    ----------
    name : str
        Of the model.
    written : CardConfig
    model, training, data, preparation, partitions, evaluation : sequence of (str, str)
        Facts to print.
    metrics : sequence of str
        How is counted, and at which operating point; in sentences.
    factors : sequence of str
        What figures are given apart for.
    certificate : str
        What is certified, or why nothing is.
    failures, robustness : sequence of str
        Of :mod:`segpipe.report.failures`.
    caveats : sequence of str
    """

    name: str
    written: CardConfig
    model: Sequence[tuple[str, str]]
    training: Sequence[tuple[str, str]]
    data: Sequence[tuple[str, str]]
    preparation: Sequence[tuple[str, str]]
    partitions: Sequence[tuple[str, str]]
    evaluation: Sequence[tuple[str, str]]
    metrics: Sequence[str]
    factors: Sequence[str]
    certificate: str
    failures: Sequence[str]
    robustness: Sequence[str]
    caveats: Sequence[str]


@dataclass(frozen=True)
class Entry:
    """A heading with sentences and facts; neither: not recorded."""

    heading: str
    sentences: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Section:
    """A heading of Mitchell et al. with its entries."""

    heading: str
    entries: tuple[Entry, ...]


def _written(heading: str, text: str | None) -> Entry:
    return Entry(heading, (text,) if text else ())


def _facts(heading: str, facts: Sequence[tuple[str, str]]) -> Entry:
    return Entry(heading, facts=tuple(facts))


def _said(heading: str, sentences: Sequence[str]) -> Entry:
    return Entry(heading, tuple(sentences))


def card_sections(facts: CardFacts) -> list[Section]:
    """The card without its tables of figures.

    Parameters
    ----------
    facts : CardFacts

    Returns
    -------
    list of Section
        The nine headings of Mitchell et al., in their order.
    """
    told = facts.written
    return [
        Section(
            "Model details",
            (
                _facts("Model", facts.model),
                _facts("Training", facts.training),
                _written("Licence", told.licence),
                _written("Who made it, and contact", told.contact),
            ),
        ),
        Section(
            "Intended use",
            (
                _written("Primary intended uses", told.intended_use),
                _written("Primary intended users", told.intended_users),
                _said(
                    "Out of scope", [BANNER, *([told.out_of_scope] if told.out_of_scope else [])]
                ),
            ),
        ),
        Section(
            "Factors",
            (
                _written("Population", told.population),
                _written("Image acquisition", told.acquisition),
                _said("Figures are given apart for", facts.factors),
            ),
        ),
        Section("Metrics", (_said("Measures, operating point and uncertainty", facts.metrics),)),
        Section(
            "Evaluation data",
            (
                _facts("Cases", facts.evaluation),
                _facts("Data partitions", facts.partitions),
                _said("Testing on external data", ("Not done by this program.",)),
            ),
        ),
        Section(
            "Training data",
            (
                _facts("Data", facts.data),
                _written("Study design and selection of scans", told.study_design),
                _written("Reference standard", told.reference_standard),
                _facts("Data preprocessing", facts.preparation),
                _written("De-identification", told.deidentification),
            ),
        ),
        Section(
            "Quantitative analyses",
            (
                _said("Certificate", (facts.certificate,)),
                _said("Robustness and sensitivity analysis", facts.robustness),
                _said("Failure analysis", facts.failures),
            ),
        ),
        Section(
            "Ethical considerations",
            (_written("Approval, consent, harms", told.ethics),),
        ),
        Section(
            "Caveats and recommendations",
            (_said("Limits", [*filter(None, [told.caveats]), *facts.caveats]),),
        ),
    ]


@dataclass(frozen=True)
class CardTable:
    """Figures of one label, ready to print."""

    label: str
    figures: list[tuple[str, str, str, str]]
    by_size: list[tuple[str, str, str]]
    by_size_interval: str
    by_region: list[tuple[str, str, str, str]]


def card_tables(validation: Mapping[str, Any] | None) -> list[CardTable]:
    """The tables of figures of a bundle's validation.

    Parameters
    ----------
    validation : mapping or None
        As in ``bundle.json``.

    Returns
    -------
    list of CardTable
        Empty where nothing was validated.
    """
    known = validation or {}
    return [
        CardTable(
            label,
            [
                (
                    title,
                    number(summary[name]["mean"], digits),
                    interval(summary[name]["ci95"], digits) or "not computed",
                    number(summary[name]["median"], digits),
                )
                for name, (title, digits) in FIGURES.items()
                if name in summary
            ],
            [
                (
                    size_range(row["low_mm3"], row["high_mm3"]),
                    f"{row['detected']} of {row['lesions']}",
                    share(row),
                )
                for row in _of(label, known.get("by_size"))
            ],
            sensitivity_interval_in_words(_of(label, known.get("by_size"))),
            [
                (
                    region_name(row["region"]) or "",
                    number(row["false_positive_regions"]["mean"]),
                    interval(row["false_positive_regions"]["ci95"]) or "not computed",
                    number(row["missed_lesions"]["mean"]),
                )
                for row in _of(label, known.get("by_region"))
            ],
        )
        for label, summary in (known.get("summary") or {}).items()
    ]


def _of(label: str, rows: Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    return [row for row in rows or () if row["label"] == label]


def model_card(facts: CardFacts, validation: Mapping[str, Any] | None, written: str) -> str:
    """The card as one self-contained HTML page.

    Parameters
    ----------
    facts : CardFacts
    validation : mapping or None
        As in ``bundle.json``.
    written : str
        Date, as it is to be printed.

    Returns
    -------
    str
    """
    cases, patients = (validation or {}).get("cases"), (validation or {}).get("patients")
    measured = "" if not cases else count(cases, "scored scan")
    measured += f" of {count(patients, 'patient')}" if measured and patients else ""
    return render(
        "card.html.j2",
        {
            "title": f"Model card, {facts.name}",
            "name": facts.name,
            "written": written,
            "sections": card_sections(facts),
            "tables": card_tables(validation),
            "measured": measured,
            "patients": patients,
            "missing": NOT_RECORDED,
        },
    )
