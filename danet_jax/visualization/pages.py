"""The pieces of HTML pages that need nothing else: no network, no scripts."""

import base64
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, SupportsFloat

import cv2
import numpy as np
from matplotlib.figure import Figure

from danet_jax.errors import UserError
from danet_jax.visualization import curves, overlays

_HERE = Path(__file__).parent
# Below this width an image's pixels are shown as squares; above the other it is reduced.
SMALL_WIDTH = 256
LARGEST_SIDE = 640

# In the head of each page, so that a former one is known.
_MARK = """content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">"""

_SPELLING = {"iou": "IoU", "f1": "F1"}


def page(title: str, *content: str) -> str:
    """A whole page: its sections under the house's style, which is inline."""
    template = Template((_HERE / "page.html").read_text(encoding="utf-8"))
    css = (_HERE / "page.css").read_text(encoding="utf-8").strip()
    return template.substitute(title=escape(title), css=css, body="\n".join(content))


def check_place(path: Path) -> None:
    """Raises a UserError where a page would take the place of a file that is no such page."""
    if not os.path.lexists(path):
        return
    try:
        is_ours = _MARK in path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        is_ours = False
    if not is_ours:
        raise UserError(f"{path} is not a page that this program wrote: move it away first.")


def title(text: str, subtitle: str) -> str:
    return f'<h1>{escape(text)}</h1>\n<p class="subtitle">{escape(subtitle)}</p>\n'


def cards(values: Mapping[str, str]) -> str:
    """Large numbers, each over its name; the first in the accent colour."""
    content = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in values.items()
    )
    return f'<div class="numbers">{content}</div>\n'


def facts(values: Mapping[str, str]) -> str:
    """Names and values in running text."""
    content = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in values.items()
    )
    return f'<dl class="settings">{content}</dl>' if values else ""


def section(title: str, content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{content}\n</section>"


def note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def figures(figures: Iterable[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>\n'


def figure(figure: Figure, *, title: str, wide: bool = False) -> str:
    uri = data_uri(curves.to_svg(figure), kind="svg+xml")
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return (
        f'<figure class="card{" wide" if wide else ""}"><h3>{escape(title)}</h3>'
        f'<div class="scroll"><img alt="{escape(title)}" width="{width}" height="{height}" '
        f'src="{uri}"></div></figure>'
    )


def table(
    head: str, rows: Sequence[str], *, title: str, style: str = "", folded: bool = False
) -> str:
    table = (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    if folded:
        summary = f"<summary>{escape(title)} ({len(rows)} rows)</summary>"
        return f'<details class="card {style}">{summary}{table}</details>\n'
    return f'<div class="card {style}"><h3>{escape(title)}</h3>{table}</div>\n'


def column_heads(*names: str) -> str:
    return "".join(f'<th scope="col">{escape(name)}</th>' for name in names)


def row_head(content: str) -> str:
    """What a row is about; `content` is HTML."""
    return f'<th scope="row">{content}</th>'


def legend(labels: Sequence[np.ndarray], *, names: Sequence[str], colors: overlays.Colors) -> str:
    """The classes that occur in the label maps, and "ignored" where that does."""
    seen = np.unique(np.concatenate([np.unique(label) for label in labels]))
    items = [
        f"<li>{swatch(color)}{escape(name)}</li>"
        for i, (name, color) in enumerate(zip(names, colors, strict=True))
        if i in seen
    ]
    if overlays.IGNORE_LABEL in seen:
        items.append(f"<li>{swatch(overlays.IGNORE_COLOR)}ignored</li>")
    return f'<ul class="legend">{"".join(items)}</ul>\n'


def picture(image: np.ndarray, *, alt: str, caption: str, lossy: bool = False) -> str:
    """An RGB image with a line below; pixel by pixel unless it is large and may be `lossy`."""
    height, width = image.shape[:2]
    if lossy and width > SMALL_WIDTH:
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
        uri = data_uri(encoded, kind="jpeg")
    else:
        uri = data_uri(overlays.encode_image_png(image), kind="png")
    return (
        f'<figure><img alt="{escape(alt)}" width="{width}" height="{height}" src="{uri}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def bar(share: float) -> str:
    """A share in 0 … 1 as a number and a bar."""
    width = f"{100 * share:.2f}" if math.isfinite(share) else "0"
    return (
        f'<span class="share"><i style="width:{width}%"></i></span>'
        f"{percent(share, decimals=2 if share < 0.1 else 1)}"
    )


def swatch(color: Sequence[int]) -> str:
    red, green, blue = color
    return f'<i class="swatch" style="background:rgb({red},{green},{blue})"></i>'


def colored(label: np.ndarray, *, colors: overlays.Colors) -> np.ndarray:
    """A label map in its classes' colours, reduced where it is large."""
    # Reduced as ids, not as colours: mixed colours would stand for no class.
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


def yaml(value: Mapping[str, Any], *, indent: int = 0) -> list[str]:
    """Escaped lines, a nested mapping indented under its key."""
    lines = []
    for key, item in value.items():
        start = f'{"  " * indent}<span class="key">{escape(str(key))}</span>:'
        if isinstance(item, Mapping) and item:
            lines += [start, *yaml(item, indent=indent + 1)]
        else:
            lines.append(f"{start} {escape(scalar(item))}")
    return lines


def scalar(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    default: Callable[[Any], str] = str
    return json.dumps(value, ensure_ascii=False, default=default)
