"""Labels that are palette images: their indices are ids, unless a GIF's colours tell these."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from danet_jax.input_pipeline.builders.folder_classes import Classes
from danet_jax.input_pipeline.checking.pairs import LabelError
from danet_jax.input_pipeline.checking.reading import open_header, open_image, read_bytes
from danet_jax.input_pipeline.labels import IGNORE_LABEL


def ids_of(label: Image.Image, classes: Classes) -> np.ndarray:
    """Returns the raw ids of a palette image.

    Raises:
      LabelError: an index has the colour of a class with another id.
    """
    indices = np.asarray(label)
    colors = _used_colors(label)
    if label.format == "GIF":
        ids = _ids_of_colors(colors, classes)
        return indices if ids is None else ids[indices]
    # Some programs renumber the colours when they save an image with fewer bits, so the colours are
    # compared with the classes' colours.
    for id, color in colors.items():
        if color not in classes.color_ids:
            continue
        by_color = classes.id_map[classes.color_ids[color]]
        if classes.id_map.get(id) != by_color:
            name = classes.labels.names[by_color] if by_color != IGNORE_LABEL else "ignored"
            raise LabelError(
                f"index {id} has the colour of {name!r}, {color}, but is another id. If the "
                'colours are right, save it as Image.open(FILE).convert("RGB"); if the indices '
                "are, leave the colours out of the list of classes"
            )
    return indices


def read_palette(file: Path, classes: Classes) -> bytes:
    """Returns red, green, blue of each id of a label that is a palette image; b"" if it is none."""
    data = read_bytes(file)
    header = open_header(data).file
    if header.mode != "P" and header.format != "GIF":
        return b""
    label = open_image(data)
    # Pillow reads a GIF of greys in their order as grey.
    colors = _used_colors(label) if label.mode == "P" else {}
    if label.format == "GIF" and _are_grey(colors):
        last = int(np.asarray(label.convert("L")).max())
        return bytes(grey for grey in range(last + 1) for _ in range(3))
    if label.format == "GIF" and _ids_of_colors(colors, classes) is not None:
        return b""  # The list of classes says what the colours stand for.
    return bytes(label.getpalette("RGB") or ())


def _used_colors(label: Image.Image) -> dict[int, Any]:
    palette = label.getpalette("RGB") or []
    return {id: tuple(palette[3 * id : 3 * id + 3]) for id in np.unique(np.asarray(label)).tolist()}


def _are_grey(colors: dict[int, Any]) -> bool:
    return all(len({*color}) == 1 for color in colors.values())


def _ids_of_colors(colors: dict[int, Any], classes: Classes) -> np.ndarray | None:
    """Returns the id of each index of a GIF, whose colours programs number as they like.

    If all colours are grey, they are the ids; if all are colours of classes, those have the ids. If
    not, there is None: the indices are the ids.
    """
    table = np.arange(256, dtype=np.int32)
    if _are_grey(colors):
        table[list(colors)] = [color[0] for color in colors.values()]
    elif all(color in classes.color_ids for color in colors.values()):
        table[list(colors)] = [classes.color_ids[color] for color in colors.values()]
    else:
        return None
    return table
