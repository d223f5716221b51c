"""What lies in a folder of images, without what systems and programs leave beside them."""

import dataclasses
import os
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path

# What systems leave in folders, besides hidden files.
_CLUTTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
_CLUTTER_FOLDERS = ("@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information")
# What programs write beside an image that they show: places on a map, previews, boxes, settings.
_SIDECARS = frozenset(
    (
        *(".xml", ".aux", ".ovr", ".msk", ".rrd", ".prj", ".cpg", ".qgz", ".qml", ".qmd", ".lyr"),
        *(".tfw", ".tifw", ".tiffw", ".jgw", ".jpgw", ".jpegw", ".pgw", ".pngw", ".bpw", ".wld"),
        *(".json", ".geojson", ".txt", ".csv", ".md", ".yaml", ".yml", ".xmp", ".thm", ".ini"),
        *(".db", ".log", ".html", ".map", ".points"),
    )
)


@dataclasses.dataclass
class Listing:
    """Image files by their paths below a folder, in Unicode's composed form; what was left out;
    and a sentence for all that is wrong."""

    files: dict[str, Path] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


def list_images(source: Path, folder: str, extensions: Sequence[str]) -> Listing:
    """Lists `folder` of a source and its subfolders, also those that are links."""
    found = Listing()
    root = source / folder

    def fail(error: OSError) -> None:
        where = os.path.relpath(error.filename or root, source)
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            found.problems.append(f"{where}: the folder cannot be read ({error.strerror})")

    # The folders that were gone through to each one: a link to one of them is without an end.
    above: dict[str, frozenset] = {str(root): frozenset()}
    for place, folders, names in os.walk(root, onerror=fail, followlinks=True):
        passed = above.pop(place) | {_identity(place)}
        folders[:] = sorted(name for name in folders if not _is_clutter(name, _CLUTTER_FOLDERS))
        for name in list(folders):
            path = os.path.join(place, name)
            if _identity(path) in passed:
                where = os.path.relpath(path, source)
                found.problems.append(f"{where}: a link to a folder that it lies in; remove it")
                folders.remove(name)
            above[path] = passed
        for name in sorted(names):
            if not _is_clutter(name, _CLUTTER):
                _add(found, Path(place, name), source, root, extensions)
    found.files = dict(sorted(found.files.items(), key=lambda item: Path(item[0])))
    return found


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_clutter(name: str, clutter: Sequence[str]) -> bool:
    return name.startswith(".") or name.lower() in clutter


def _add(found: Listing, file: Path, source: Path, root: Path, extensions: Sequence[str]) -> None:
    where = os.path.relpath(file, source)
    extension = file.suffix.lower()
    if extension in _SIDECARS:
        found.left_out.append(where)
        return
    problem = _problem(file)
    if problem:
        found.problems.append(f"{where}: {problem}")
    elif extension not in extensions:
        found.problems.append(f"{where}: no image by its name; known are {', '.join(extensions)}")
    else:
        key = unicodedata.normalize("NFC", file.relative_to(root).as_posix())
        if key in found.files:
            found.problems.append(
                f"{where}: there are two files of this name, whose accents are "
                "encoded differently (NFC and NFD); rename one of them"
            )
        found.files[key] = file


def _problem(file: Path) -> str:
    try:
        mode = file.stat().st_mode
    except OSError as error:
        if file.is_symlink() and isinstance(error, FileNotFoundError):
            return f"a link to {os.readlink(file)}, which is not there"
        return f"cannot be read ({error.strerror})"
    return "" if stat.S_ISREG(mode) else "not a file but a pipe, a socket or a device"
