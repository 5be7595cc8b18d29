"""The variables of a network as named arrays, and arrays as bytes; no pickle."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from segpipe.errors import ModelError


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of an .npz file; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
    return buffer.getvalue()


def unpack_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of :func:`pack_arrays`, in their order; never unpickles."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            with archive.open(name) as entry:
                array = np.lib.format.read_array(entry, allow_pickle=False)
            arrays[name.removesuffix(".npy")] = array
    return arrays


def network_arrays(network) -> dict[str, np.ndarray]:
    """Every variable of a network by its path, in order."""
    return {f"{i:04d}/{v.path}": np.asarray(v) for i, v in enumerate(network.variables)}


def assign_arrays(network, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Put arrays into a network's variables; ModelError when names or shapes differ."""
    expected = {name: array.shape for name, array in network_arrays(network).items()}
    received = {name: array.shape for name, array in arrays.items()}
    if expected != received:
        wrong = sorted(set(expected.items()) ^ set(received.items()))[:3]
        raise ModelError(
            f"{where}: expected the weights of the configured network; received others, first "
            f"differences {wrong}. The configuration and the weights do not belong together."
        )
    for variable, array in zip(network.variables, arrays.values(), strict=True):
        variable.assign(array)
