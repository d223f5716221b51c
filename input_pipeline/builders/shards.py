"""Shards of a data set that is being prepared; they survive the process that wrote them."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

import tensorflow_datasets as tfds

from danet_jax.base import shapes
from danet_jax.base.errors import DataError
from danet_jax.base.files import remove_leftovers, replace_file
from danet_jax.base.json_files import read_json
from danet_jax.input_pipeline.checking.pairs import Observation, Pair
from danet_jax.input_pipeline.checking.verification import Check

# A shard is made of so many bytes of source files: TFDS holds its records in memory while it writes
# them.
SHARD_SIZE = 64 << 20
# The number is raised when the same files would make other records, so that shards of an earlier
# version are not used.
_FORMAT = 2
_TEXTS = shapes.list_of(shapes.text)
_NUMBERS = shapes.list_of(shapes.whole())
# A record is written for each shard, with the fields of `Observation`.
_RECORD = shapes.fields(
    {
        "fingerprint": shapes.text,
        "observations": shapes.list_of(
            shapes.fields(
                {
                    **dict.fromkeys(("image", "label", "digest"), shapes.text),
                    **dict.fromkeys(("problems", "suspicions", "notes"), _TEXTS),
                    "size": _NUMBERS,
                    "palette": shapes.matching("([0-9a-f]{6})*", "colours in hexadecimal"),
                    "counts": shapes.list_of(shapes.list_of(shapes.whole(), least=2, most=2)),
                }
            )
        ),
    }
)
# As another version may have written it.
_ANY_RECORD = shapes.fields(
    {"fingerprint": shapes.text, "observations": shapes.list_of(shapes.anything)}
)
_ENDING = ".array_record"
# A record's first bytes.
_BEGINNING = b'{"fingerprint"'
_THREADS = min(16, 2 * (os.cpu_count() or 1))


def divide(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Divides pairs, in their order, into parts of about SHARD_SIZE."""
    parts: list[list[Pair]] = []
    room = 0
    for pair in pairs:
        if room <= 0:
            parts.append([])
            room = SHARD_SIZE
        parts[-1].append(pair)
        with contextlib.suppress(OSError):
            room -= pair.image.stat().st_size
    return parts


class Shard:
    """The records of some pairs: made when TFDS asks for them, or left by an earlier attempt."""

    def __init__(
        self,
        name: str,
        pairs: Sequence[Pair],
        check: Check,
        observe: Callable[[str, Observation], None],
        writer: "ResumableWriter",
    ):
        self.name = name
        self._pairs = pairs
        self._check = check
        self._observe = observe
        self._writer = writer
        self.observations: list[Observation] = []
        # These come from an interrupted attempt; None where the records have to be made.
        self.reused: list[Observation] | None = None
        self.fingerprint = ""

    @property
    def is_faulty(self) -> bool:
        return any(observation.problems for observation in self.observations)

    def __call__(self) -> Iterator[tuple[int, dict]]:
        # The fingerprint is taken before any file is read: a file that is saved again meanwhile is
        # another one next time.
        self.fingerprint = self._find_fingerprint()
        self.reused = self._writer.earlier_observations(self)
        self._writer.current = self
        return self._records()

    def _find_fingerprint(self) -> str:
        """Returns a hash of all that decides the records: files, ids, storage, this code."""
        files = [
            [pair.id, pair.part, *map(_identity, (pair.image, pair.label))] for pair in self._pairs
        ]
        content = json.dumps([_FORMAT, self._check.fingerprint, files])
        return hashlib.sha256(content.encode()).hexdigest()

    def _records(self) -> Iterator[tuple[int, dict]]:
        split = self.name.rpartition("-")[0]
        if self.reused is not None:
            # TFDS only counts these examples; the writer uses the file that is there.
            for index, observation in enumerate(self.reused):
                self._observe(split, observation)
                yield index, {}
            return
        with futures.ThreadPoolExecutor(_THREADS) as pool:
            for index, (record, observation) in enumerate(pool.map(self._check, self._pairs)):
                self.observations.append(observation)
                self._observe(split, observation)
                yield index, record


class ResumableWriter(tfds.core.ExampleWriter):
    """Writes each shard to a folder that survives an interruption, then links it."""

    def __init__(self, folder: Path):
        super().__init__(tfds.core.FileFormat.ARRAY_RECORD)
        self.folder = folder
        self.current: Shard | None = None

    def earlier_observations(self, shard: Shard) -> list[Observation] | None:
        """Returns the observations of a shard that is here already, else None."""
        record = self._record(shard)
        if not (record.is_file() and self._file(shard).is_file()):
            return None
        try:
            content = read_json(record, _RECORD, error=DataError, advice="")
        except DataError:  # The file is torn, or another version wrote it.
            return None
        if content["fingerprint"] != shard.fingerprint:
            return None
        known = {field.name for field in dataclasses.fields(Observation)}
        if any(values.keys() != known for values in content["observations"]):
            return None
        return [Observation(**values) for values in content["observations"]]

    def write(self, path, examples) -> None:
        shard = self.current
        assert shard is not None, "TFDS makes a shard's records before it writes them"
        path, file = Path(path), self._file(shard)
        if shard.reused is None:
            # TFDS removes its own folder, in which this writes, on any failure.
            super().write(path, examples)
            if shard.is_faulty:
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            content = {
                "fingerprint": shard.fingerprint,
                "observations": [vars(observation) for observation in shard.observations],
            }
            record = self._record(shard)
            for place in (file, record):
                if os.path.lexists(place) and not _is_record(record):
                    raise DataError(
                        f"{place} was not written by an earlier preparation, and would be lost: "
                        "move it away, and prepare again"
                    )
            # A kill between the two leaves the record of what is not there, and the next
            # preparation writes both anew.
            file.unlink(missing_ok=True)
            replace_file(record, data=json.dumps(content).encode())
            os.replace(path, file)
        try:
            os.link(file, path)
        except OSError:  # Not every file system has links.
            shutil.copyfile(file, path)

    def _file(self, shard: Shard) -> Path:
        return self.folder / f"{shard.name}{_ENDING}"

    def _record(self, shard: Shard) -> Path:
        return self.folder / f"{shard.name}.json"


def remove_shards(folder: Path) -> None:
    """Removes the shards of `ResumableWriter` from a folder, and the folder if it is empty then."""
    if folder.is_dir():
        remove_leftovers(folder, is_ours=lambda beginning: beginning.startswith(_BEGINNING))
        for record in filter(_is_record, list(folder.glob("*.json"))):
            record.with_suffix(_ENDING).unlink(missing_ok=True)
            record.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_record(file: Path) -> bool:
    """Returns whether a file describes a shard, and is named so, such as train-00003.json."""
    if not re.fullmatch(r"\w+-[0-9]{5}\.json", file.name) or file.is_symlink():
        return False
    try:
        read_json(file, _ANY_RECORD, error=DataError, advice="")
    except (DataError, OSError):
        return False
    return True


def _identity(file: Path | None) -> list | None:
    try:
        status = None if file is None else file.stat()
    except OSError:
        status = None
    return None if status is None else [str(file), status.st_size, status.st_mtime_ns]
