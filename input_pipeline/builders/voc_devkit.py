"""The folders of PASCAL VOC's development kit, which VOC 2012 and PASCAL Context share."""

import collections
from pathlib import Path

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.checking import reading


def find_root(source: Path, year: str) -> Path | None:
    """Returns the folder of `year`, "VOC2012", that holds JPEGImages: the source or one below."""
    folders = (source, source / year, source / "VOCdevkit" / year)
    return next((folder for folder in folders if (folder / "JPEGImages").is_dir()), None)


def read_names(listing: Path) -> tuple[list[str], list[str]]:
    """Returns the names of images in a list, once each, and what is wrong with the list."""
    file = "/".join(listing.parts[-3:])
    try:
        lines = reading.read_bytes(listing).decode(errors="replace").splitlines()
    except DataError as error:
        return [], [f"{file}: {error}"]
    names = collections.Counter(line.split()[0] for line in lines if line.strip())
    problems = [f"{file}: {name} is listed twice" for name, count in names.items() if count > 1]
    if not names:
        problems.append(f"{file}: lists no examples")
    return list(names), problems
