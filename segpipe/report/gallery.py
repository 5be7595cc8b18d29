"""Which lesions a reader has to see, and the slices that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.lesions.components import label_components
from segpipe.report import slices
from segpipe.report.lesion import Lesion
from segpipe.report.slices import Picture
from segpipe.volume import Volume

LARGEST = 4
LEAST_CERTAIN = 2
IMPLAUSIBLE = 4
CHANNELS_SHOWN = 3


@dataclass(frozen=True)
class KeyLesion:
    """A lesion with its pictures: the whole slice first, then a close-up per channel."""

    lesion: Lesion
    why: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """Key lesions and how their slices were made.

    Parameters
    ----------
    lesions : tuple of KeyLesion
    plane : str
        ``axial``, ``coronal`` or ``sagittal``.
    tilt_degrees : float
        Largest angle between the scan's axes and the patient's.
    thick_slices : bool
        The plane was chosen because the scan's slices are thick.
    implausible_left : int
        How many regions outside the named anatomy have no picture.
    overview : Picture or None
        The middle slice where there is no lesion to show, to see which scan was read.
    """

    lesions: tuple[KeyLesion, ...]
    plane: str
    tilt_degrees: float
    thick_slices: bool
    implausible_left: int = 0
    overview: Picture | None = None


def choose(
    lesions: Sequence[Lesion],
    largest: int = LARGEST,
    least_certain: int = LEAST_CERTAIN,
    implausible: int = IMPLAUSIBLE,
) -> list[tuple[Lesion, str]]:
    """The lesions that a reader has to see.

    The largest, those of the others with the lowest mean probability, and the largest of those
    that lie outside the named anatomy, in this order.

    Returns
    -------
    list of (Lesion, str)
        With the reason: ``largest``, ``least certain``, ``outside the named anatomy``, or two.
    """
    by_size = sorted(lesions, key=lambda lesion: (-lesion.volume_ml, lesion.id))
    rest = [lesion for lesion in by_size[largest:] if lesion.mean_probability is not None]
    by_doubt = sorted(rest, key=lambda lesion: (lesion.mean_probability, lesion.id))
    astray = [lesion for lesion in by_size if lesion.implausible][:implausible]
    reasons: dict[int, list[str]] = {}
    for chosen, why in (
        (by_size[:largest], "largest"),
        (by_doubt[:least_certain], "least certain"),
        (astray, "outside the named anatomy"),
    ):
        for lesion in chosen:
            reasons.setdefault(lesion.id, []).append(why)
    known = {lesion.id: lesion for lesion in lesions}
    return [(known[number], ", ".join(why)) for number, why in reasons.items()]


def make_gallery(
    channels: Mapping[str, Volume], components: Volume, lesions: Sequence[Lesion]
) -> Gallery:
    """Draw the key lesions.

    Parameters
    ----------
    channels : mapping of str to Volume
        (X, Y, Z) scans on one grid; the first is shown whole, and the first
        :data:`CHANNELS_SHOWN` close up.
    components : Volume
        (X, Y, Z) integer ids on the same grid.
    lesions : sequence of Lesion
        Whose ids are those of ``components``.

    Returns
    -------
    Gallery
    """
    images = {name: slices.to_ras(volume) for name, volume in channels.items()}
    ids = slices.to_ras(components)
    first = next(iter(images.values()))
    axis = slices.viewing_axis(first)
    spacing = pixel_mm(first, axis)
    windows = {name: slices.grey_window(volume.array, ids.array) for name, volume in images.items()}
    box = slices.content_box(first.array, axis, spacing)
    drawn = []
    chosen = choose(lesions)
    for lesion, why in chosen:
        index = slices.best_index(ids.array, lesion.id, axis)
        cut = {name: slices.to_screen(v.array, axis, index) for name, v in images.items()}
        marks = slices.to_screen(ids.array, axis, index)
        pictures = _pictures(cut, marks, lesion, (axis, index), spacing, windows, box)
        drawn.append(KeyLesion(lesion, why, pictures))
    return Gallery(
        lesions=tuple(drawn),
        plane=slices.PLANES[axis],
        tilt_degrees=slices.tilt_degrees(first),
        thick_slices=axis != 2 or max(first.spacing_mm) > 2 * float(np.median(first.spacing_mm)),
        implausible_left=sum(lesion.implausible for lesion in lesions)
        - sum(lesion.implausible for lesion, _ in chosen),
        overview=None if chosen else _overview(next(iter(channels)), first, axis, box),
    )


def _overview(name: str, image: Volume, axis: int, box: tuple[slice, ...]) -> Picture:
    """The slice half way along a RAS scan."""
    index, plane = image.shape[axis] // 2, slices.PLANES[axis]
    cut = slices.to_screen(image.array, axis, index)[box]
    return slices.draw(
        cut,
        np.zeros(cut.shape, np.uint8),
        pixel_mm(image, axis),
        plane=plane,
        kinds={},
        tagged=(),
        window=slices.grey_window(image.array, np.zeros(image.shape, np.uint8)),
        caption=f"{name}, {plane} slice {index + 1}",
        alt=f"Whole {plane} {name} slice through the middle of the scan, in radiological "
        "orientation",
    )


def pixel_mm(volume: Volume, axis: int) -> tuple[float, float]:
    """Height and width of a pixel of the slices across ``axis``."""
    columns, rows = (volume.spacing_mm[a] for a in range(3) if a != axis)
    return rows, columns


def _pictures(cut, marks, lesion, place, spacing, windows, box) -> tuple[Picture, ...]:
    """The whole slice of the first channel, then the close-up of each."""
    axis, index = place
    plane = slices.PLANES[axis]
    box = grown_box(box, marks == lesion.id)
    diameter = lesion.longest_diameter_mm or 0.0
    extent = max(slices.CLOSE_UP_MM, 1.5 * diameter)
    near = slices.close_up_box(marks == lesion.id, spacing, extent)
    where = ", ".join(part for part in (lesion.region, lesion.side) if part)
    subject = f"lesion {lesion.id}" + (f" ({where})" if where else "")
    pictures = []
    for number, name in enumerate(list(cut)[:CHANNELS_SHOWN]):
        if number == 0:
            words = (f"{name}, {plane} slice {index + 1}", f"Whole {plane} {name} slice through")
            pictures.append((name, box, words, False))
        words = (f"{name}, close-up", f"Close-up {name} {plane} picture of")
        pictures.append((name, near, words, True))
    return tuple(
        slices.draw(
            cut[name][window],
            marks[window],
            spacing,
            plane=plane,
            kinds={lesion.id: "chosen"},
            tagged=np.unique(marks[window]) if tag_all else [lesion.id],
            window=windows[name],
            caption=caption,
            alt=f"{start} {subject}, in radiological orientation",
        )
        for name, window, (caption, start), tag_all in pictures
    )


def grown_box(box: tuple[slice, ...], mask: np.ndarray) -> tuple[slice, ...]:
    """The box, made to hold the whole mask."""
    grown = []
    for axis, part in enumerate(box):
        places = np.flatnonzero(mask.any(axis=1 - axis))
        grown.append(slice(min(part.start, int(places[0])), max(part.stop, int(places[-1]) + 1)))
    return tuple(grown)


PAINTED = {1: "hit", 2: "false", 3: "missed"}


@dataclass(frozen=True)
class PaintedCase:
    """Slices of a scored case.

    Parameters
    ----------
    pictures : tuple of Picture
    complete : bool
        Whether every false-positive region lies on one of them.
    """

    pictures: tuple[Picture, ...]
    complete: bool


def paint_case(scan: Volume, painted: Volume, name: str, most: int = 1) -> PaintedCase:
    """The slices that show most of a case's false-positive regions, or of its other errors.

    Parameters
    ----------
    scan : Volume
        (X, Y, Z).
    painted : Volume
        (X, Y, Z): 1 found lesion, 2 false-positive region, 3 missed lesion. Where nothing is
        false-positive, the slice with most missed voxels is shown; without any, that with most
        found ones; where nothing is painted, the middle.
    name : str
        Of the channel.
    most : int
        Slices at the most, from 1; fewer where fewer show every false-positive region.

    Returns
    -------
    PaintedCase
    """
    image, marks = slices.to_ras(scan), slices.to_ras(painted).array
    axis = slices.viewing_axis(image)
    spacing, plane = pixel_mm(image, axis), slices.PLANES[axis]
    content = slices.content_box(image.array, axis, spacing)
    window = slices.grey_window(image.array, marks)
    places, complete = _telling_slices(np.moveaxis(marks, axis, 0), most)
    pictures = []
    for index in places:
        cut = slices.to_screen(marks, axis, index)
        box = grown_box(content, cut > 0) if cut.any() else content
        picture = slices.draw(
            slices.to_screen(image.array, axis, index)[box],
            cut[box],
            spacing,
            plane=plane,
            kinds=PAINTED,
            tagged=(),
            window=window,
            caption=f"{name}, {plane} slice {index + 1}",
            alt=f"{plane.capitalize()} {name} slice with found lesions, false-positive regions "
            "and missed lesions outlined, in radiological orientation",
        )
        pictures.append(picture)
    return PaintedCase(tuple(pictures), complete)


def _telling_slices(marks: np.ndarray, most: int) -> tuple[list[int], bool]:
    """Slices along the first axis to show, in order, and whether they show all that is false.

    Greedily the slice with most false-positive regions that none before it shows; of equals the
    one with most voxels of errors.
    """
    regions, count = label_components(marks == 2)
    errors, found = (m.sum(axis=(1, 2)) for m in (marks >= 2, marks == 1))
    if not count:
        shown = errors if errors.any() else found
        return [int(shown.argmax()) if shown.any() else len(marks) // 2], True
    on_slice = [set(np.unique(one).tolist()) - {0} for one in regions]
    places: list[int] = []
    left = set(range(1, count + 1))
    while left and len(places) < most:
        best = max(range(len(marks)), key=lambda i: (len(on_slice[i] & left), errors[i], -i))
        places.append(best)
        left -= on_slice[best]
    return sorted(places), not left
