"""Finds image files below folders, and reads the bytes of files; nothing here decodes."""

import dataclasses
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from danet_jax.base.errors import DataError, unreadable_file

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

# This is in bytes, and more than LARGEST_IMAGE pixels of 16-bit RGBA need.
LARGEST_FILE = 2 << 30

# Operating systems, disk stations and archives put these into folders, besides hidden files.
_CLUTTER = {
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
    "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx",
}  # fmt: skip
# GIS programs and photo editors write these beside an image that somebody looks at: statistics,
# overviews, masks, world files, projections, edits.
_SIDECARS = (
    ".aux.xml", ".ovr", ".msk", ".rrd", ".prj", ".xmp", ".aae", ".thm",
    ".wld", ".tfw", ".tifw", ".tiffw", ".tfwx", ".jgw", ".jpgw", ".jpegw", ".jgwx", ".pgw", ".pngw",
    ".pgwx", ".bpw", ".bmpw",
)  # fmt: skip
# Links may lead through further links, but only so many: a few folders that link to each other
# would otherwise become thousands.
_NESTED_LINKS = 3


@dataclasses.dataclass(frozen=True)
class Listing:
    """What lies in a folder and its subfolders, each list sorted.

    `images` have one of the given extensions; `sidecars` are files that programs write beside an
    image; `others` are all further files. `left_out` holds sentences on what cannot be read: pipes,
    devices, broken links, forbidden folders. Hidden files and folders, and the clutter of operating
    systems, are in none of these lists.
    """

    images: list[Path] = dataclasses.field(default_factory=list)
    others: list[Path] = dataclasses.field(default_factory=list)
    sidecars: list[Path] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)


def list_folder(folder: str | os.PathLike, *, extensions: Sequence[str] = EXTENSIONS) -> Listing:
    """Sorts the content of a folder and its subfolders by kind, without opening any file.

    Links to folders are followed, unless they lead to a folder that contains them.

    Raises:
      DataError: the folder itself is missing or cannot be read.
    """
    root, listing = Path(folder), Listing()
    try:
        above = frozenset(_identity(os.stat(path)) for path in _with_parents(root))
        os.scandir(root).close()
    except OSError as error:
        raise DataError(f"{root}: {_reason(error)}") from None
    # This is a stack, since folders can be nested more deeply than Python can recurse.
    waiting = [(root, above, 0)]
    while waiting:
        current, above, links = waiting.pop()
        try:
            names = os.listdir(current)
        except OSError as error:
            listing.left_out.append(f"{current}: {_reason(error)}")
            continue
        for name in names:
            if name.startswith(".") or name.lower() in _CLUTTER:
                continue
            path = current / name
            try:
                status = os.stat(path)
            except OSError as error:
                broken = "a link to nothing" if path.is_symlink() else error.strerror or str(error)
                listing.left_out.append(f"{path}: {broken}")
                continue
            if not stat.S_ISDIR(status.st_mode):
                _sort(path, status, listing, extensions)
                continue
            through = links + path.is_symlink()
            if _identity(status) in above:
                listing.left_out.append(f"{path}: a link to a folder that contains it")
            elif through > _NESTED_LINKS:
                listing.left_out.append(f"{path}: a link, reached through {links} other links")
            else:
                waiting.append((path, above | {_identity(status)}, through))
    for paths in (listing.images, listing.others, listing.sidecars):
        paths.sort()
    listing.left_out.sort()
    return listing


def list_files(folder: Path, ending: str) -> list[Path]:
    """Returns the files of a folder whose names end in `ending`, sorted; [] without a folder.

    `Path.glob` silently skips folders that it may not read, which would leave out examples.

    Raises:
      DataError: the folder cannot be read.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder}: {unreadable_file(error, needed='u+rx')}") from error
    return [folder / name for name in sorted(names) if name.endswith(ending)]


def find_images(path: str | os.PathLike) -> Listing:
    """Returns the image file at `path`, or what `list_folder` finds in the folder there.

    Raises:
      DataError: nothing is there, it is no ordinary file, the file has no known extension, or the
        folder holds no image.
    """
    path = Path(path)
    known = ", ".join(extension[1:] for extension in EXTENSIONS)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if stat.S_ISDIR(status.st_mode):
        listing = list_folder(path)
        if not listing.images:
            left_out = "".join(f"; left out: {line}" for line in listing.left_out[:3])
            raise DataError(f"{path}: no image in this folder; looked for {known}{left_out}")
        return listing
    if kind := _special_kind(status):
        raise DataError(f"{path}: {kind}, not an image file")
    if path.suffix.lower() not in EXTENSIONS:
        raise DataError(f"{path}: not an image by its name; known are {known}")
    return Listing(images=[path])


def read_file(path: str | os.PathLike) -> bytes:
    """Returns the content of an ordinary file that is not empty.

    Raises:
      DataError: it is missing, empty, no ordinary file, above LARGEST_FILE, or the system refuses.
    """
    try:
        # This comes before opening, since opening a device can already have effects.
        _refuse_special(os.stat(path))
        # With O_NONBLOCK neither a pipe nor a file of /proc can make this wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _refuse_special(status)
            if status.st_size > LARGEST_FILE:
                raise DataError(
                    f"the file has {status.st_size / 1e9:.1f} GB; an image has at most "
                    f"{LARGEST_FILE / 1e9:.1f}"
                )
            # One byte more is read to detect files without a size of their own, as in /proc, and
            # files that are still being written.
            data = file.read(status.st_size + 1) or b""
    except OSError as error:
        raise unreadable_file(error) from error
    except MemoryError:
        raise DataError("there is too little memory to read the file") from None
    if len(data) > status.st_size:
        raise DataError("it grows while it is read: it is still being written, or no ordinary file")
    if not data:
        raise DataError("empty file")
    return data


def _reason(error: OSError) -> str:
    """Returns why a folder cannot be listed, with the remedy if there is one."""
    if isinstance(error, PermissionError):
        return str(unreadable_file(error, needed="u+rx"))
    return error.strerror or str(error)


def _sort(path: Path, status: os.stat_result, listing: Listing, extensions: Sequence[str]) -> None:
    name = path.name.lower()
    if kind := _special_kind(status):
        listing.left_out.append(f"{path}: {kind}")
    elif path.suffix.lower() in extensions:
        listing.images.append(path)
    elif name.endswith(_SIDECARS):
        listing.sidecars.append(path)
    else:
        listing.others.append(path)


def _refuse_special(status: os.stat_result) -> None:
    if kind := _special_kind(status):
        raise DataError(f"{kind}, not an image file")


def _special_kind(status: os.stat_result) -> str:
    """Names a file that is not an ordinary one, "a named pipe"; "" for an ordinary file."""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return "" if stat.S_ISREG(status.st_mode) else kinds.get(stat.S_IFMT(status.st_mode), "special")


def _with_parents(folder: Path) -> list[Path]:
    resolved = folder.resolve()
    return [resolved, *resolved.parents]


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
