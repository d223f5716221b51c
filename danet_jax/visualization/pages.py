"""The pieces of HTML pages without scripts, which load nothing else."""

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, SupportsFloat

import cv2
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from danet_jax.base.errors import UserError
from danet_jax.base.files import replace_file
from danet_jax.base.texts import visible
from danet_jax.visualization import curves, overlays

_HERE = Path(__file__).parent
# Images below SMALL_WIDTH are enlarged with visible pixels; those above LARGEST_SIDE are reduced.
SMALL_WIDTH = 256
LARGEST_SIDE = 640

# Pages of the first release are recognised by this part of their head.
_FORMER_MARK = b"""content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">"""
# Later pages hold a checksum of the rest of the page.
_MARK = re.compile(rb'<meta name="generator" content="danet-jax ([0-9a-f]{32})">\n')
_BEFORE_MARK = b'<meta charset="utf-8">\n'

_SPELLING = {"iou": "IoU", "f1": "F1"}


def tag(name: str, *content: str, **attributes: object) -> Markup:
    """An HTML element; content that is not Markup is text, and is escaped.

    Attributes are keyword arguments, `class_` for "class"; one that is None is left out.
    """
    given = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_"), value)
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(content)
    end = Markup("") if name in ("img", "br") else Markup("</{}>").format(name)
    return Markup("<{}{}>{}{}").format(name, given, inside, end)


def page(title: str, *content: Markup) -> str:
    """A whole page with its style inline."""
    template = Template((_HERE / "page.html").read_text(encoding="utf-8"))
    css = (_HERE / "page.css").read_text(encoding="utf-8").strip()
    body = Markup("\n").join(content)
    return visible(template.substitute(title=escape(title), css=css, body=body))


def write(path: Path | str, page: str) -> Path:
    """Writes a page, whole or not at all; a UserError where `check_place` raises one.

    Whoever checked the place before a long computation has it checked again here.
    """
    check_place(Path(path))
    return replace_file(path, data=encode(page))


def encode(page: str) -> bytes:
    """Returns the content of a page's file, with the mark by which `check_place` recognises it."""
    data = page.encode(errors="replace")
    mark = b'<meta name="generator" content="danet-jax %s">\n' % _checksum(data).encode()
    return data.replace(_BEFORE_MARK, _BEFORE_MARK + mark, 1)


def check_place(path: Path) -> None:
    """Raises a UserError where a page would overwrite what this program did not write.

    That is any other file, or a page that somebody has changed.
    """
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        raise UserError(f"{path} is a link, which a page would replace: move it away first.")
    try:
        # Reading a pipe would block until somebody writes to it.
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        data = b""
    if mark := _MARK.search(data):
        if mark[1].decode() != _checksum(data[: mark.start()] + data[mark.end() :]):
            raise UserError(
                f"{path} was changed since this program wrote it, and the change would be lost: "
                "move it away first."
            )
    elif _FORMER_MARK not in data:
        raise UserError(f"{path} is not a page that this program wrote: move it away first.")


def _checksum(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def title(text: str, subtitle: str) -> Markup:
    return tag("h1", text) + "\n" + tag("p", subtitle, class_="subtitle") + "\n"


def cards(values: Mapping[str, str]) -> Markup:
    """Large numbers, each over its name; the first in the accent colour."""
    content = (
        tag("div", tag("b", value), tag("span", name), class_="card")
        for name, value in values.items()
    )
    return tag("div", *content, class_="numbers") + "\n"


def facts(values: Mapping[str, str]) -> Markup:
    """Names and values in running text."""
    content = [tag("div", tag("dt", name), tag("dd", value)) for name, value in values.items()]
    return tag("dl", *content, class_="settings") if content else Markup("")


def section(title: str, content: Markup) -> Markup:
    return tag("section", "\n", tag("h2", title), "\n", content, "\n")


def note(text: str) -> Markup:
    return tag("p", text, class_="note")


def figures(figures: Iterable[Markup]) -> Markup:
    return tag("div", *figures, class_="figures") + "\n"


def figure(figure: Figure, *, title: str, wide: bool = False) -> Markup:
    uri = data_uri(curves.to_svg(figure), kind="svg+xml")
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    image = tag("img", alt=title, width=width, height=height, src=uri)
    return tag(
        "figure",
        tag("h3", title),
        tag("div", image, class_="scroll"),
        class_="card wide" if wide else "card",
    )


def table(
    head: Markup, rows: Sequence[Markup], *, title: str, style: str = "", folded: bool = False
) -> Markup:
    content = tag("table", tag("thead", tag("tr", head)), tag("tbody", *rows))
    scrolled = tag("div", content, class_="scroll")
    if folded:
        summary = tag("summary", f"{title} ({len(rows)} rows)")
        return tag("details", summary, scrolled, class_=f"card {style}") + "\n"
    return tag("div", tag("h3", title), scrolled, class_=f"card {style}") + "\n"


def column_heads(*names: str) -> Markup:
    return Markup("").join(tag("th", name, scope="col") for name in names)


def row_head(*content: str) -> Markup:
    """The first cell of a row, which names it."""
    return tag("th", *content, scope="row")


def row(*cells: str) -> Markup:
    """A row of a table, of cells (Markup) or their texts."""
    whole = (cell if isinstance(cell, Markup) else tag("td", cell) for cell in cells)
    return tag("tr", *whole)


def legend(
    labels: Sequence[np.ndarray], *, names: Sequence[str], colors: overlays.Colors
) -> Markup:
    """The classes that occur in the label maps, and "ignored" where that does."""
    occurring = np.unique(np.concatenate([np.unique(label) for label in labels]))
    items = [
        tag("li", swatch(color), name)
        for i, (name, color) in enumerate(zip(names, colors, strict=True))
        if i in occurring
    ]
    if overlays.IGNORE_LABEL in occurring:
        items.append(tag("li", swatch(overlays.IGNORE_COLOR), "ignored"))
    return tag("ul", *items, class_="legend") + "\n"


def picture(image: np.ndarray, *, alt: str, caption: str, lossy: bool = False) -> Markup:
    """An RGB image with a caption; lossless unless it is large and may be `lossy`."""
    height, width = image.shape[:2]
    if lossy and width > SMALL_WIDTH:
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
        uri = data_uri(encoded, kind="jpeg")
    else:
        uri = data_uri(overlays.encode_image_png(image), kind="png")
    shown = tag("img", alt=alt, width=width, height=height, src=uri)
    return tag("figure", shown, tag("figcaption", caption))


def bar(share: float) -> Markup:
    """A share in 0 … 1 as a number and a bar."""
    width = f"{100 * share:.2f}" if math.isfinite(share) else "0"
    return tag("span", tag("i", style=f"width:{width}%"), class_="share") + percent(
        share, decimals=2 if share < 0.1 else 1
    )


def swatch(color: Sequence[int]) -> Markup:
    red, green, blue = map(int, color)
    return tag("i", class_="swatch", style=f"background:rgb({red},{green},{blue})")


def colored(label: np.ndarray, *, colors: overlays.Colors) -> np.ndarray:
    """A label map in its classes' colours, reduced where it is large."""
    # Ids are reduced, not colours: a mixed colour would stand for no class.
    small = reduced(label.astype(np.uint8), interpolation=cv2.INTER_NEAREST)
    return overlays.colorize(small, colors=colors)


def reduced(array: np.ndarray, *, interpolation: int) -> np.ndarray:
    height, width = array.shape[:2]
    scale = LARGEST_SIDE / max(height, width)
    if scale >= 1:
        return array
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return cv2.resize(array, size, interpolation=interpolation)


def data_uri(data: bytes, *, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def label(name: str) -> str:
    return " ".join(_SPELLING.get(word, word) for word in name.split("_"))


def percent(value: SupportsFloat, *, decimals: int = 1, unit: str = "") -> str:
    return f"{100 * float(value):.{decimals}f}{unit}" if math.isfinite(float(value)) else "–"


def text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def yaml(value: Mapping[str, Any], *, indent: int = 0) -> list[Markup]:
    """Lines of HTML, a nested mapping indented under its key."""
    lines = []
    for key, item in value.items():
        start = escape("  " * indent) + tag("span", str(key), class_="key") + ":"
        if isinstance(item, Mapping) and item:
            lines += [start, *yaml(item, indent=indent + 1)]
        else:
            lines.append(start + " " + scalar(item))
    return lines


def scalar(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    default: Callable[[Any], str] = str
    return json.dumps(value, ensure_ascii=False, default=default)
