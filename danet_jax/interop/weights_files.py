"""The files of a weights folder, and what is checked of them before any array is read."""

import os
from pathlib import Path
from typing import Any

from danet_jax.base import shapes
from danet_jax.base.errors import UserError
from danet_jax.base.files import check_local
from danet_jax.base.json_files import is_there, read_bytes, read_json
from danet_jax.base.texts import one_line
from danet_jax.base.wording import listed
from danet_jax.interop.torch_files import checksum
from danet_jax.runs.folder import ARRAYS_FILE, CLASSES_FILE, CONFIG_FILE, MANIFEST

FORMAT = "folder"
# It rises when a reader of before would read a folder wrongly.
FORMAT_VERSION = 1
CARD_FILE = "README.md"
# The card has no checksum, since its licence is to be filled in.
CHECKED_FILES = (ARRAYS_FILE, CONFIG_FILE, CLASSES_FILE)
FILES = (*CHECKED_FILES, CARD_FILE, MANIFEST)
# Stands in a card wherever a person has to write the licence.
TO_FILL_IN = "TO-BE-FILLED-IN"
# Files of these endings may hold code that runs when they are loaded.
_PICKLES = (".pkl", ".pickle", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".joblib", ".npy")
_MANIFEST = shapes.fields(
    {
        "format": shapes.text,
        "files": shapes.map_of(
            shapes.fields(
                {
                    "bytes": shapes.whole(),
                    "sha256": shapes.matching("[0-9a-f]{64}", "64 hexadecimal digits"),
                }
            )
        ),
    },
    {"format_version": shapes.whole(), "step": shapes.optional(shapes.whole())},
)
_AGAIN = "Copy or download the folder again, or export the run anew."


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns a folder's manifest.

    Raises:
      UserError: there is no such folder, it is none of weights, or of another version.
    """
    check_local(folder, name="folder")
    if not folder.is_dir():
        what = "is a file, not a folder" if is_there(folder) else "there is no such folder"
        raise UserError(f"{folder}: {what}. Name one that `export --format={FORMAT}` wrote.")
    if not is_there(folder / MANIFEST):
        raise UserError(
            f"{folder} is no folder of weights: it has no {MANIFEST}.{_on_pickles(folder)} Name "
            f"one that `export --format={FORMAT}` wrote."
        )
    manifest = read_json(folder / MANIFEST, _MANIFEST, error=UserError, advice=_AGAIN)
    if manifest["format"] != FORMAT:
        raise UserError(
            f"{folder} holds an export of the format {one_line(manifest['format'], longest=40)!r}, "
            f"which others read. Export the run with --format={FORMAT}."
        )
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{folder / MANIFEST} is of version {manifest.get('format_version')} of the format, "
            f"and this program knows {FORMAT_VERSION}: use the program's version that wrote it."
        )
    if (files := set(manifest["files"])) != set(CHECKED_FILES):
        others = [one_line(name, longest=60) for name in sorted(files - set(CHECKED_FILES))]
        wrong = f"names {listed(others)}" if others else "does not name all files"
        raise UserError(
            f"{folder / MANIFEST} {wrong}; a folder's files are {', '.join(CHECKED_FILES)}, and "
            f"nothing else is loaded. {_AGAIN}"
        )
    return manifest


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises a UserError where a file is missing or is not the one that was exported."""
    for name in CHECKED_FILES:
        path, noted = folder / name, manifest["files"][name]
        if not path.is_file():
            what = f"is missing.{_on_pickles(folder)}" if not is_there(path) else "is no file."
            raise UserError(f"{path} {what} {_AGAIN}")
        if (size := path.stat().st_size) != noted["bytes"]:
            raise UserError(
                f"{path} has {size:,} bytes, and {MANIFEST} beside it says {noted['bytes']:,}: it "
                f"is torn, or not what was exported. {_AGAIN}"
            )
        if (found := checksum(path)) != noted["sha256"]:
            raise UserError(
                f"{path} is not what was exported: its SHA-256 begins with {found[:12]}, and "
                f"{MANIFEST} beside it says {noted['sha256'][:12]}. It was not loaded. {_AGAIN}"
            )


def check_licence(folder: Path) -> None:
    """Raises a UserError, with the lines to edit, where a card names no licence."""
    path = folder / CARD_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: a hub shows it as the model's page. {_AGAIN}")
    try:
        lines = read_bytes(path, error=UserError).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8: save it as such.") from None
    advice = "Write the licence of these weights there, such as `license: apache-2.0`, and repeat."
    end = _end_of_front_matter(lines)
    values = {
        number: line.partition(":")[2].partition("#")[0].strip(" \t\"'")
        for number, line in enumerate(lines[:end], start=1)
        if line.startswith("license:")
    }
    if not values:
        raise UserError(
            f"{path} names no licence: it needs a line `license: …` between the two lines `---` "
            f"that it begins with. {advice}"
        )
    unfilled = [n for n, value in values.items() if value in ("", "null", "~", TO_FILL_IN)]
    # Names of classes may hold the same words, but stand behind others.
    body = enumerate(lines[end:], start=end + 1)
    unfilled += [number for number, line in body if line.startswith(TO_FILL_IN)]
    if unfilled:
        shown = "; ".join(f"line {n}, `{one_line(lines[n - 1], longest=60)}`" for n in unfilled)
        raise UserError(f"{path}: the licence is not filled in: {shown}. {advice}")


def others_in(folder: Path) -> list[str]:
    """Returns the names of what lies in a folder beside the files of the format."""
    return sorted(name for name in os.listdir(folder) if name not in FILES)


def _end_of_front_matter(lines: list[str]) -> int:
    """The number of the line that ends a card's front matter; 0 where it has none."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    ends = (number for number, line in enumerate(lines[1:], start=2) if line.rstrip() == "---")
    return next(ends, 0)


def _on_pickles(folder: Path) -> str:
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(_PICKLES))
    if not names:
        return ""
    pickles = [one_line(name, longest=60) for name in names]
    return f" {listed(pickles)} can hold code, so nothing of it is loaded."
