"""Folders that nobody else can have put anything into."""

import contextlib
import grp
import os
import pwd
import stat
from pathlib import Path


def private_folder(folder: Path) -> str:
    """Makes a folder for this user alone, where there is none; says why one cannot be trusted.

    What is loaded from it is code. So the folder and all in it have to be this user's own and not
    to be written by others, and nobody else may be able to rename the folders above it.

    Returns:
      What is wrong and what to do, as the end of a sentence; "" for a folder to be trusted.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        real = Path(os.path.realpath(folder, strict=True))
        for path in (real, *real.parents, *folder.absolute().parents):
            if problem := _problem(path, os.lstat(path), above=path != real):
                return problem
        for name in os.listdir(real):
            if problem := _problem(real / name, os.lstat(real / name)):
                return problem
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""


def _problem(path: Path, found: os.stat_result, *, above: bool = False) -> str:
    if stat.S_ISLNK(found.st_mode) and not above:
        return f"{path} is a link; move it away"
    owners = (os.geteuid(), 0) if above else (os.geteuid(),)
    if found.st_uid not in owners:
        return f"{path} belongs to {_name(found.st_uid)}; name a folder of yours in XDG_CACHE_HOME"
    # Below a sticky one, such as /tmp, each renames only what is his own.
    is_sticky = above and found.st_mode & stat.S_ISVTX
    if not stat.S_ISLNK(found.st_mode) and not is_sticky and _others_may_write(found):
        return f"others may write to {path}; chmod go-w {path}, or name another in XDG_CACHE_HOME"
    return ""


def _others_may_write(found: os.stat_result) -> bool:
    by_group = found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid)
    return bool(by_group or found.st_mode & stat.S_IWOTH)


def _is_private(gid: int) -> bool:
    """True for the group of one member that many systems make for each user."""
    with contextlib.suppress(KeyError):
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
        only = set(group.gr_mem) <= {user.pw_name}
        return user.pw_gid == gid and group.gr_name == user.pw_name and only
    return False


def _name(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user {uid}"
