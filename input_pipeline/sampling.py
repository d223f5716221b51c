"""Rare class sampling: images that hold rare classes are drawn more often."""

import contextlib
import io
import json
import os
import zipfile
import zlib
from concurrent import futures
from pathlib import Path

import numpy as np
from jaxtyping import UInt32
from rich.console import Console
from rich.progress import track

from danet_jax.base.errors import DataError, UserError
from danet_jax.base.files import replace_file
from danet_jax.input_pipeline.examples import Examples
from danet_jax.input_pipeline.storage.datasets import Split

FILE = "class_pixels.npz"
# The names of its arrays begin with one of these words, and the name of the split follows.
_COUNTS, _IDENTITY = "split", "identity"
_CHECKSUM = "checksum"
_THREADS = min(16, 2 * (os.cpu_count() or 1))


class RareClassSampler:
    """Draws a class, rare ones more often, then one of the images that contain it, uniformly.

    This is Rare Class Sampling of DAFormer (Hoyer, Dai, Van Gool, CVPR 2022): the probability of
    class c, which covers the share f(c) of all labelled pixels, is proportional to exp((1 - f(c)) /
    T). Classes that no image contains are left out.

    Args:
      class_pixels: pixels of each class in each image.
      temperature: T, above 0; small values prefer rare classes more, large ones draw all classes
        alike. DAFormer's is 0.01.

    Raises:
      DataError: no image has a labelled pixel.
    """

    def __init__(self, class_pixels: UInt32[np.ndarray, "n classes"], *, temperature: float):
        totals = class_pixels.sum(axis=0, dtype=np.float64)
        self.classes = np.flatnonzero(totals)
        if not self.classes.size:
            raise DataError("data.rare_class_sampling: no image has a labelled pixel")
        frequencies = totals[self.classes] / totals.sum()
        # Frequencies are taken relative to that of the rarest class, since the exponentials of
        # small temperatures would overflow.
        weights = np.exp((frequencies.min() - frequencies) / temperature)
        self.probabilities = weights / weights.sum()
        self._bounds = np.cumsum(self.probabilities)[:-1]
        holders = [np.flatnonzero(class_pixels[:, id]) for id in self.classes]
        self._holders = np.concatenate(holders).astype(np.int32)
        self._stops = np.cumsum([len(indices) for indices in holders])

    def draw(self, rng: np.random.Generator) -> int:
        """Draws the index of an image."""
        drawn = int(np.searchsorted(self._bounds, rng.random(), side="right"))
        start = self._stops[drawn - 1] if drawn else 0
        return int(self._holders[rng.integers(start, self._stops[drawn])])


def count_class_pixels(split: Split) -> UInt32[np.ndarray, "n classes"]:
    """Counts the pixels of each class in each example.

    The counts are stored beside the prepared records, and counted only once.

    Raises:
      DataError: a label that is not usable.
    """
    if isinstance(split, Examples):
        return _count(split)
    file, name = split.folder / FILE, split.split
    known = _read(file)
    of = np.uint32(zlib.crc32(json.dumps(split.identity, sort_keys=True).encode()))
    if known.get(f"{_IDENTITY} {name}") == of:
        return known[f"{_COUNTS} {name}"]
    counts = _count(split)
    known |= {f"{_COUNTS} {name}": counts, f"{_IDENTITY} {name}": np.array(of)}
    # If the folder cannot be written to, counting is repeated at each start, and nothing else is
    # lost. The same holds where a file of another program has this name.
    if not os.path.lexists(file) or _is_ours(file):
        with contextlib.suppress(UserError):
            replace_file(file, data=_encode(known))
    return counts


def _count(split: Split) -> np.ndarray:
    console = Console(stderr=True)
    with futures.ThreadPoolExecutor(_THREADS) as pool:
        counts = track(
            pool.map(split.class_pixels, range(len(split))),
            description=f"Counting classes of {split.name}, {split.split}",
            total=len(split),
            console=console,
            disable=not console.is_terminal,
        )
        return np.stack(list(counts)).astype(np.uint32)


def _load(file: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file; none if it is missing, a link, or holds something else."""
    try:
        if file.is_symlink():
            return {}
        # NumPy would leave a file that it cannot read open.
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return {}


def _is_ours(file: Path) -> bool:
    """Whether a file is one of counts; the first release wrote them without a checksum."""
    arrays = _load(file)
    names = arrays.keys() - {_CHECKSUM}
    return bool(names) and all(name.startswith((f"{_COUNTS} ", f"{_IDENTITY} ")) for name in names)


def _read(file: Path) -> dict[str, np.ndarray]:
    """Reads counts and what they are of; none if they are not as they were written."""
    arrays = _load(file)
    checksum = arrays.pop(_CHECKSUM, None)
    if checksum is None or checksum.shape or checksum != _checksum(arrays):
        return {}
    return arrays


def _encode(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    marked = {**arrays, _CHECKSUM: np.array(_checksum(arrays))}
    np.savez_compressed(buffer, **marked)  # type: ignore[arg-type]
    return buffer.getvalue()


def _checksum(arrays: dict[str, np.ndarray]) -> np.uint32:
    checksum = 0
    for name, array in sorted(arrays.items()):
        described = f"{name} {array.dtype.str} {array.shape}".encode()
        checksum = zlib.crc32(described + np.ascontiguousarray(array).tobytes(), checksum)
    return np.uint32(checksum)
