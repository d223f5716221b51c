"""A mark in files that commands write, by which it recognises them if they are unchanged.

Each file names the program that wrote it and holds a checksum of the rest. So neither another
program's file nor one that a person has changed is ever overwritten.
"""

import hashlib
import json
import stat
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

WRITER = "danet-jax predict"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bytes of the signature and of the chunk IHDR, which must be the first one.
_HEAD = 33
_JSON_START = f'{{\n  "written_by": "{WRITER}"'.encode()
# Bytes that the files of images of LARGEST_IMAGE pixels are far from.
_LARGEST = 4 << 30


def mark_png(data: bytes, writer: str = WRITER) -> bytes:
    """Returns a PNG with the mark as a text chunk."""
    content = b"tEXt" + _text(writer) + _checksum(data).encode()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return data[:_HEAD] + chunk + data[_HEAD:]


def encode_json(value: Mapping[str, object], writer: str = WRITER) -> bytes:
    """Returns an object as JSON, with the mark as its first two fields."""
    marked = {"written_by": writer, "checksum": _checksum(_dump(value)), **value}
    return _dump(marked)


def is_ours(path: Path, writer: str = WRITER) -> bool:
    """Whether a file is one that the functions above made, unchanged."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            return False
        data = path.read_bytes()
        if data.startswith(_SIGNATURE):
            return begins_as_ours(data, writer) and _is_marked_png(data, writer)
        return _is_marked_json(data, writer)
    except (OSError, ValueError, RecursionError):
        return False


def begins_as_ours(data: bytes, writer: str = WRITER) -> bool:
    """Whether a file, which may be incomplete, begins as a marked one does."""
    if data.startswith(_SIGNATURE):
        return data[_HEAD + 4 :].startswith(b"tEXt" + _text(writer))
    return data.startswith(_JSON_START)


def _text(writer: str) -> bytes:
    return b"Software\0" + writer.encode() + b" "


def _is_marked_png(data: bytes, writer: str) -> bool:
    end = _HEAD + 12 + int.from_bytes(data[_HEAD : _HEAD + 4])
    return mark_png(data[:_HEAD] + data[end:], writer) == data


def _is_marked_json(data: bytes, writer: str) -> bool:
    value = json.loads(data)
    if not isinstance(value, dict):
        return False
    rest = {key: item for key, item in value.items() if key not in ("written_by", "checksum")}
    return encode_json(rest, writer) == data


def _dump(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _checksum(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
