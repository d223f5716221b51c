"""Files that are complete or absent, and folders that a failure leaves as they were."""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from danet_jax.base.errors import UserError

TEMPORARY_PREFIX = ".tmp-"
# The program's name is part of the file's, so that a file which is still empty can be recognised.
_REPLACEMENT_PREFIX = f"{TEMPORARY_PREFIX}danet-"
_TEMPORARY = re.compile(re.escape(_REPLACEMENT_PREFIX) + "[0-9a-f]{32}")
_BEGINNING = 256
_ATTEMPTS = 3
_FREE_SPACE = "Free space or choose another folder."
_CURES = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: _FREE_SPACE,
    errno.ENAMETOOLONG: "Give it a shorter name, or choose a folder nearer to the root.",
}
# One letter is a drive of Windows. `Path` makes gs:/x of gs://x.
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://|([a-zA-Z][a-zA-Z0-9+-]+):/")


def check_local(path: Path | str, *, name: str) -> None:
    """Raises a UserError for a URL, for which `open` would make a local folder "gs:"."""
    match = _URL.match(str(path))
    if not match:
        return
    scheme, rest = (match[1] or match[2]).lower(), str(path)[match.end() :].lstrip("/")
    match scheme:
        case "file":
            cure = "Leave out the scheme and give the absolute path alone."
        case "http" | "https" | "ftp":
            cure = "Download it first, and give the local file."
        case "hf":
            cure = (
                "It names a repository of a hub: danet_jax.Predictor.from_folder reads it from "
                "Python, and --repo takes OWNER/NAME without the scheme."
            )
        case _:
            cure = (
                "Mount the bucket as a folder (gcsfuse, s3fs, rclone mount) and give that folder, "
                "or copy the files."
            )
    raise UserError(
        f"{name} is {scheme}://{rest}: this is a URL, and only local paths are taken. {cure}"
    )


def replace_file(path: Path | str, *, data: bytes) -> Path:
    """Writes `data` to `path` in one step, and makes its folder if there is none.

    A reader sees the old file or the new one, never a part, whatever stops the write. Raises
    UserError if the system refuses (disk full, no permission); the old file then stays.
    """
    path = Path(path)
    # The file lies beside the target, since a rename is atomic only within a file system.
    temporary = path.with_name(f"{_REPLACEMENT_PREFIX}{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            _write(temporary, data)
            try:
                os.replace(temporary, path)
                break
            except FileNotFoundError:
                # Another process took the file for the rest of a killed one: `remove_leftovers` can
                # come between opening and locking, or between unlocking and renaming.
                if attempt + 1 == _ATTEMPTS:
                    raise
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            cure = _CURES.get(error.errno or 0, "Choose another folder.")
            raise UserError(f"{path} was not written: {reason}. {cure}") from error
        raise
    return path


def _write(temporary: Path, data: bytes) -> None:
    with open(temporary, "xb") as file:
        # The lock tells `remove_leftovers` that the file is still being written. Not every file
        # system has locks.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(data)
        file.flush()
        # Some file systems report a full disk only here.
        os.fsync(file.fileno())


def remove_leftovers(folder: Path, *, is_ours: Callable[[bytes], bool]) -> None:
    """Removes the temporary files of killed `replace_file` calls from a folder.

    Only files with such names are removed, if they are empty or `is_ours` recognises their first
    bytes, and no process is writing them. Without locks in the file system none is removed.
    """
    try:
        names = [name for name in os.listdir(folder) if _TEMPORARY.fullmatch(name)]
    except OSError:
        return
    for name in names:
        # The file may be a link or a pipe that somebody else made.
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with open(os.open(folder / name, flags), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    continue
                beginning = file.read(_BEGINNING)
                if not beginning or is_ours(beginning):
                    os.unlink(folder / name)


def check_output(option: str, folder: Path, *, empty: bool = False) -> None:
    """Raises a UserError if the folder for the results of a command cannot take them.

    Args:
      option: the command-line option, for the message.
      folder: the folder, which need not exist yet.
      empty: whether a folder that holds anything is refused.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{option} {folder} is there already, and is a file: name a folder.")
    if folder.is_dir() and empty and (names := sorted(os.listdir(folder))):
        raise UserError(
            f"{option} {folder} is there already, with {names[0]} in it: name a new or an empty "
            "folder."
        )
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise UserError(f"{option} {folder} cannot be made: {above} is a file.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(
            f"{option} {folder} cannot be written: {above} is read-only. Name another folder."
        )


def make_folder(folder: Path) -> list[Path]:
    """Makes a folder and its missing parents; returns those it made, the deepest first.

    An empty folder that was there before belongs to a person: only those returned may be removed
    again.
    """
    made_folders: list[Path] = []
    try:
        for path in reversed((folder, *folder.parents)):
            # If one of the parents is a file, mkdir names what cannot be made.
            if not os.path.lexists(path) or (path == folder and not path.is_dir()):
                path.mkdir()
                made_folders.insert(0, path)
    except OSError:
        remove_if_empty(made_folders)
        raise
    return made_folders


def remove_if_empty(folders: Iterable[Path]) -> None:
    """Removes those of the folders that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def all_or_nothing(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder, whose files move into `folder` at the end of the block, in order.

    If the block fails, `folder` is as it was. Raises FileExistsError, and moves no file, if
    `folder` contains one of the same name by then.
    """
    made_folders = make_folder(folder)
    moved: list[Path] = []
    try:
        # The temporary folder lies inside, since `folder` may be a disk of its own, or the only
        # place that can be written to.
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder) as name:
            yield Path(name)
            for file in sorted(Path(name).iterdir(), key=lambda file: file.stat().st_mtime_ns):
                _move(file, folder / file.name, moved)
    except BaseException:
        for file in moved:
            file.unlink(missing_ok=True)
        remove_if_empty(made_folders)
        raise


def _move(file: Path, target: Path, moved: list[Path]) -> None:
    """Gives a file a new name; unlike a rename, this never replaces another file."""
    try:
        os.link(file, target)
        moved.append(target)
    except FileExistsError:
        raise
    except OSError:  # Not every file system has links.
        with open(file, "rb") as source, open(target, "xb") as copy:
            moved.append(target)
            shutil.copyfileobj(source, copy)
