"""Overlays of prepared cases: drawn once, kept in the cache, shown on one page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from segpipe.anatomy import false_positive_weight
from segpipe.config import Config, RegionConfig
from segpipe.errors import SegpipeError
from segpipe.files import write_text
from segpipe.folders import error_without_folders
from segpipe.observer import Observer
from segpipe.parallel import map_cases
from segpipe.prepare import PreparedCase, store
from segpipe.report.overlay import overlay_pictures, overlay_svg, region_looks
from segpipe.report.review import RegionFacts, ReviewedCase, region_facts, review_page
from segpipe.report.wording import sentence
from segpipe.volume import Volume

FORMAT = 2
"""Part of every key: raise it whenever the same case would be drawn or measured differently."""

_PICTURE, _FACTS = "overlay.svg", "facts.json"


def write_review(
    order: Sequence[str],
    prepared: Mapping[str, PreparedCase],
    failed: Mapping[str, SegpipeError],
    config: Config,
    cache: Path,
    *,
    channel: str,
    shown: str,
    observer: Observer,
) -> Path:
    """Write ``CASE.svg`` of every prepared case, and ``index.html`` with all of them.

    Pictures are made by the processes that prepare, and kept in the cache: what was drawn before
    is not drawn again.

    Parameters
    ----------
    order : sequence of str
        Case ids in the order of the page.
    prepared : mapping of str to PreparedCase
    failed : mapping of str to SegpipeError
        Shown with the reason instead of a picture; that of an earlier call is removed.
    config : Config
    cache : Path
    channel : str
        Name of the first channel, which is shown.
    shown : str
        In a sentence, which preparation is shown.
    observer : Observer

    Returns
    -------
    Path
        The page.
    """
    regions = config.anatomy.regions
    folder = config.output / config.name / "prepare"
    whole = [prepared[case] for case in order if case in prepared and case not in failed]
    draw = partial(_reviewed, regions=regions, channel=channel, cache=cache)
    reviewed = {
        case: ReviewedCase(case, error=sentence(error_without_folders(error)))
        for case, error in failed.items()
    }
    outcomes = map_cases(draw, whole, workers=config.prepare.workers, scheduler=config.scheduler)
    for done, outcome in enumerate(outcomes, start=1):
        observer.progress(done, len(whole), "drawing")
        if outcome.error is not None:
            raise outcome.error
        reviewed[outcome.value.case] = outcome.value
    for case, one in reviewed.items():
        _show(folder / f"{case}.svg", one.picture)
    page = folder / "index.html"
    listed = [reviewed[case] for case in order if case in reviewed]
    write_text(page, review_page(config.name, shown, region_looks(regions), listed))
    return page


def _reviewed(
    case: PreparedCase, *, regions: Sequence[RegionConfig], channel: str, cache: Path
) -> ReviewedCase:
    """A case with its picture, from the cache or drawn now."""
    drawn = [[r.name, r.source, r.weight, r.floor] for r in regions]
    content = [FORMAT, case.regions_folder.name, channel, drawn]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    entry = store.find(cache, key)
    if entry is None:
        entry = store.put(cache, key, _drawn(case, regions, channel))
    facts = [RegionFacts(**one) for one in json.loads((entry / _FACTS).read_bytes())]
    picture = (entry / _PICTURE).read_text(encoding="utf-8")
    return ReviewedCase(case.id, picture, facts, case.flags)


def _drawn(case: PreparedCase, regions: Sequence[RegionConfig], channel: str) -> dict[str, bytes]:
    reference = None if case.reference is None else case.reference[...]
    maps, names = case.regions[...], case.region_names
    looks = [region_looks(regions)[name] for name in names]
    total = sum(region.weight for region in regions)
    tint = false_positive_weight(maps, names, regions) / total if total else None
    image = Volume(np.asarray(case.image[..., 0]), np.diag([*case.spacing_mm, 1.0]))
    pictures = overlay_pictures(image, reference, maps, looks, channel, tint)
    facts = region_facts(maps, names, reference, image.voxel_volume_mm3)
    return {
        _PICTURE: overlay_svg(case.id, pictures, looks).encode(),
        _FACTS: json.dumps([asdict(one) for one in facts]).encode(),
    }


def _show(path: Path, picture: str) -> None:
    """Write a picture where it is not there yet; remove an earlier one where there is none."""
    if not picture:
        path.unlink(missing_ok=True)
    elif not path.is_file() or path.read_bytes() != picture.encode():
        write_text(path, picture)
