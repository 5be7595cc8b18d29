"""The MNI152 template as a source of synthetic brains: tissue maps, and zones told by location."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from segpipe.anatomy.template import mni152_map

ZONE_STEP_MM = 2.0
GREY_T1, CSF_T1 = 0.65, 0.48  # of the template, white matter at 0.875: typical, and the divide


@dataclass(frozen=True)
class Maps:
    """Maps on one lattice of MNI152 space.

    Parameters
    ----------
    origin_mm : (3,) float ndarray
        World coordinates of voxel (0, 0, 0); axes are R, A, S.
    step_mm : float
        Voxel edge length.
    maps : dict of str to (X, Y, Z) float32 ndarray
    """

    origin_mm: np.ndarray
    step_mm: float
    maps: dict[str, np.ndarray]

    def sample(self, name: str, points_mm: np.ndarray) -> np.ndarray:
        """Linear interpolation of a map at (3, ...) world points; 0 outside."""
        origin = self.origin_mm.reshape(3, *[1] * (points_mm.ndim - 1))
        where = (points_mm - origin) / self.step_mm
        return ndimage.map_coordinates(self.maps[name], where, order=1, output=np.float32)


@dataclass(frozen=True)
class Atlas:
    """Tissue maps at 1 mm, and zones (soft masks and distances in mm) at 2 mm."""

    tissue: Maps
    zones: Maps


def _infratentorial(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Brainstem and cerebellum, cut from the rest by planes along the tentorium."""
    lateral = np.abs(x)
    tent = -7 - 0.27 * lateral - 0.2 * np.maximum(0, -50 - y)
    cerebellum = (y < -36) & (z < tent)
    brainstem = (lateral < 17) & (y < -10) & (y > -48) & (z < -13)
    return cerebellum | brainstem | ((y < -28) & (z < -36))


def _ventricles(t1: np.ndarray, inside_mm: np.ndarray, grid: tuple[np.ndarray, ...]) -> np.ndarray:
    """Lateral and third ventricles: dark on T1, deep inside, connected to one of their seeds."""
    x, y, z = grid
    box = (np.abs(x) < 38) & (y > -50) & (y < 36) & (z > -8) & (z < 34)
    dark = (t1 < CSF_T1 + 0.02) & (inside_mm > 26) & box & ~((y < -28) & (np.abs(x) < 9) & (z < 12))
    labels, _ = ndimage.label(dark)
    seeds = labels[(np.abs(x) > 8) & (np.abs(x) < 18) & (y > -25) & (y < 12) & (z > 12) & dark]
    return np.isin(labels, np.unique(seeds[seeds > 0]))


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """The atlas from nilearn's shipped MNI152 T1, grey- and white-matter maps; no download."""
    t1, grey, white, brain = (mni152_map(name).array for name in ("t1", "gm", "wm", "brain"))
    origin = mni152_map("t1").affine[:3, 3]
    sharp = t1 + 1.2 * (t1 - ndimage.gaussian_filter(t1, 2.5)) * brain
    ratio = np.log((white + 0.02) / (grey + 0.02))
    tissue = {"t1": t1, "sharp": sharp, "ratio": ratio, "brain": brain}
    every = slice(None, None, int(ZONE_STEP_MM))
    coarse = {k: v[every, every, every] for k, v in tissue.items()}
    zones = _zones(coarse, grey[every, every, every], white[every, every, every], origin)
    return Atlas(Maps(origin, 1.0, tissue), Maps(origin, ZONE_STEP_MM, zones))


def _zones(tissue, grey, white, origin) -> dict[str, np.ndarray]:
    shape = grey.shape
    axes = [origin[i] + ZONE_STEP_MM * np.arange(shape[i]) for i in range(3)]
    x, y, z = (np.asarray(g) for g in np.meshgrid(*axes, indexing="ij", sparse=True))
    brain = tissue["brain"] > 0.5
    hull = ndimage.binary_closing(np.pad(brain, 8), iterations=8)[8:-8, 8:-8, 8:-8]
    depth = ndimage.distance_transform_edt(hull, sampling=ZONE_STEP_MM)
    ventricles = _ventricles(tissue["t1"], depth, (x, y, z))
    to_ventricles = ndimage.distance_transform_edt(~ventricles, sampling=ZONE_STEP_MM)
    infra = _infratentorial(x, y, z) & brain
    lateral = np.abs(x)
    pole = (z < -14) & (y > -12) & (y < 26) & (lateral > 19) & brain & ~infra
    central = (lateral < 46) & (y > -36) & (y < 26) & (z > -12) & (z < 22) & (depth > 20)
    midline = (lateral < 7) & (to_ventricles > 0) & (y < 40) & (y > -46) & (z < 20)
    deep_grey = central & (grey > 0.35) & (to_ventricles > 0) & ~midline
    plausible = ((white > 0.5) | (to_ventricles < 3.5)) & ~ventricles & brain
    plausible &= ~infra & ~pole & ~midline & ~deep_grey
    cortex = (grey > 0.45) & ~central & ~infra & brain & (depth < 30)
    choroid = ventricles & (lateral > 10) & (y < -18) & (z < 22)
    septum = (lateral < 4) & (to_ventricles < 5) & (y > -20) & (y < 24) & (z > 4) & (z < 22)
    cistern = (tissue["t1"] < CSF_T1) & (infra | pole | (z < -4)) & brain
    masks = {
        "plausible": ndimage.binary_closing(plausible) & ~ventricles & ~deep_grey,
        "cortex": cortex,
        "ventricles": ventricles,
        "infratentorial": infra,
        "pole": pole,
        "deep_grey": deep_grey,
        "choroid": choroid,
        "septum": septum & ~ventricles & brain,
        "cistern": cistern,
    }
    smooth = {k: ndimage.gaussian_filter(v.astype(np.float32), 0.5) for k, v in masks.items()}
    distances = {"depth": depth, "to_ventricles": to_ventricles}
    return smooth | {k: v.astype(np.float32) for k, v in distances.items()}
