"""Names of examples that are used as names of files."""

import re

from danet_jax.base.texts import one_line, visible

# File systems, and programs that unpack archives, allow a part of a path so many bytes of UTF-8.
_LONGEST_PART = 200
_LONGEST = 1000
# These are devices on Windows, with any extension: no file of such a name can be made or unpacked
# there.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_RESERVED = re.compile(r'[\\<>:"|?*\t\n]')


def problem_of(name: str) -> str | None:
    """Returns why no file below a folder can have this name, "city/frame"; None if one can."""
    parts = name.split("/")
    if not name:
        return "it is empty"
    if name.startswith("/"):
        return "it begins at the root of the file system"
    if ".." in parts:
        return "it leads out of the folder"
    if "" in parts or "." in parts:
        return "a part of it is empty"
    if visible(name) != name or _RESERVED.search(name):
        return "it holds control characters, or some that file systems reserve"
    if any(part.endswith((".", " ")) or _DEVICE.fullmatch(part.strip()) for part in parts):
        return "Windows has no file of this name"
    if len(name.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in parts):
        return f"a part of it has more than {_LONGEST_PART} bytes"
    return None


def shown(name: str) -> str:
    """Returns the name in quotes, escaped and shortened."""
    return f'"{one_line(name, longest=80)}"'
