"""The only place that knows SimpleITK: one fit of a pattern to a scan, the same bits every time.

Every voxel of a pattern is used, so nothing is drawn by chance, and one thread adds up in one
order. ITK's world runs to the left and to the back where ours runs to the right and to the front.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import SimpleITK

from segpipe.anatomy.pattern import Pattern
from segpipe.anatomy.similarity import BINS, CENTER_MM
from segpipe.volume import Volume

Kind = Literal["rigid", "similarity", "affine"]

VERSION = SimpleITK.Version.VersionString()
_LPS = np.diag([-1.0, -1.0, 1.0])
_ORTHOGONAL = 1e-3  # by how much a product of rotations may miss being one
_MESH_MM = 50.0  # between the knots of a B-spline


class NoOverlapError(Exception):
    """The scan and the pattern share too little to be compared."""


def to_itk(volume: Volume) -> Any:
    """An (X, Y, Z) float or uint8 volume as an ITK image."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    spacing = np.array(volume.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((_LPS @ volume.affine[:3, 3]).tolist())
    image.SetDirection((_LPS @ volume.affine[:3, :3] / spacing).ravel().tolist())
    return image


class Fitter:
    """A pattern and a scan, ready to be compared and fitted.

    Parameters
    ----------
    pattern : Pattern
        Stays where it is.
    scan : Volume
        (X, Y, Z) float32, to be found in the pattern's world.
    """

    def __init__(self, pattern: Pattern, scan: Volume) -> None:
        self.step_mm = pattern.step_mm
        self.fixed = to_itk(pattern.image)
        self.mask = to_itk(pattern.image.with_array(pattern.mask.astype(np.uint8)))
        self.moving = to_itk(scan)

    def value_at(self, affine: np.ndarray) -> float:
        """Mutual information in nats where an affine puts the pattern; -inf where they miss."""
        method = self._method()
        method.SetInitialTransform(_transform("affine", affine), inPlace=False)
        try:
            return -float(method.MetricEvaluate(self.fixed, self.moving))
        except RuntimeError:
            return -np.inf

    def fit(self, affine: np.ndarray, kind: Kind, iterations: int) -> np.ndarray:
        """Climb from an affine to the next maximum among the transforms of a kind.

        Raises
        ------
        NoOverlapError
            If scan and pattern drift apart.
        """
        transform = _transform(kind, affine)
        method = self._method()
        method.SetOptimizerAsGradientDescent(
            learningRate=1.0,
            numberOfIterations=iterations,
            convergenceMinimumValue=1e-6,
            convergenceWindowSize=10,
            estimateLearningRate=method.EachIteration,
            maximumStepSizeInPhysicalUnits=self.step_mm / 4,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, inPlace=True)
        self._execute(method)
        return _matrix(transform)

    def bend(self, affine: np.ndarray, iterations: int) -> Volume:
        """A smooth displacement in template space, before a given affine.

        Returns
        -------
        Volume
            (X, Y, Z, 3) float32, mm, on the pattern's lattice.

        Raises
        ------
        NoOverlapError
            As in :meth:`fit`.
        """
        size = np.array(self.fixed.GetSize()) * self.step_mm
        mesh = [max(1, round(float(length) / _MESH_MM)) for length in size]
        transform = SimpleITK.BSplineTransformInitializer(self.fixed, mesh)
        method = self._method()
        method.SetMovingInitialTransform(_transform("affine", affine))
        method.SetOptimizerAsLBFGSB(
            gradientConvergenceTolerance=1e-5,
            numberOfIterations=iterations,
            maximumNumberOfCorrections=5,
            maximumNumberOfFunctionEvaluations=4 * iterations,
        )
        method.SetInitialTransform(transform, inPlace=True)
        self._execute(method)
        field = SimpleITK.TransformToDisplacementField(
            transform,
            SimpleITK.sitkVectorFloat64,
            self.fixed.GetSize(),
            self.fixed.GetOrigin(),
            self.fixed.GetSpacing(),
            self.fixed.GetDirection(),
        )
        moved = SimpleITK.GetArrayFromImage(field).transpose(2, 1, 0, 3) @ _LPS
        return Volume(np.ascontiguousarray(moved, dtype=np.float32), _lattice_affine(self.fixed))

    def _method(self) -> Any:
        method = SimpleITK.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetNumberOfWorkUnits(1)  # parts are added up as they finish, whatever the threads
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricSamplingStrategy(method.NONE)
        method.SetMetricFixedMask(self.mask)
        method.SetInterpolator(SimpleITK.sitkLinear)
        return method

    def _execute(self, method: Any) -> None:
        try:
            method.Execute(self.fixed, self.moving)
        except RuntimeError as error:
            raise NoOverlapError(str(error)) from error


def _transform(kind: Kind, affine: np.ndarray) -> Any:
    """An affine as an ITK transform about the template's centre.

    For ``rigid`` and ``similarity`` it must be one.
    """
    turn, center = _LPS @ affine[:3, :3] @ _LPS, _LPS @ CENTER_MM
    flat = turn.ravel().tolist()
    transform: Any
    if kind == "affine":
        transform = SimpleITK.AffineTransform(3)
        transform.SetMatrix(flat)
    else:
        maker = {"rigid": SimpleITK.Euler3DTransform, "similarity": SimpleITK.Similarity3DTransform}
        transform = maker[kind]()
        transform.SetMatrix(flat, _ORTHOGONAL)
    transform.SetCenter(center.tolist())
    transform.SetTranslation((_LPS @ affine[:3, 3] - center + turn @ center).tolist())
    return transform


def _matrix(transform: Any) -> np.ndarray:
    turn = np.array(transform.GetMatrix()).reshape(3, 3)
    center, shift = np.array(transform.GetCenter()), np.array(transform.GetTranslation())
    affine = np.eye(4)
    affine[:3, :3] = _LPS @ turn @ _LPS
    affine[:3, 3] = _LPS @ (shift + center - turn @ center)
    return affine


def _lattice_affine(image: Any) -> np.ndarray:
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = _LPS @ direction * np.array(image.GetSpacing())
    affine[:3, 3] = _LPS @ np.array(image.GetOrigin())
    return affine
