"""The files of a benchmark, which are written over only where a benchmark wrote them."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from danet_jax.base.errors import UserError
from danet_jax.base.files import replace_file
from danet_jax.visualization import marks

WRITER = "danet-jax benchmark"


def place(text: str) -> Path:
    """Returns the place of --json, for argparse."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    try:
        check_place(path)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def check_place(path: Path) -> None:
    """Raises a UserError for a file that no benchmark wrote, or that somebody has changed."""
    if os.path.lexists(path) and not marks.is_ours(path, WRITER):
        raise UserError(
            f"{path} is not as a benchmark wrote it, and would be lost: move it away, or name "
            "another place."
        )


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Writes numbers; values that JSON does not know become texts."""
    check_place(path)
    plain = json.loads(json.dumps(record, default=str))
    replace_file(path, data=marks.encode_json(plain, WRITER))


def write_png(path: Path, data: bytes) -> None:
    """Writes a plot."""
    check_place(path)
    replace_file(path, data=marks.mark_png(data, WRITER))
