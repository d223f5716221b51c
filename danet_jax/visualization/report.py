"""One run's results as one HTML file that needs nothing else: no network, no scripts."""

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, SupportsFloat

import cv2
import numpy as np
from jaxtyping import Integer, UInt8
from matplotlib.figure import Figure

from danet_jax.files import replace_file
from danet_jax.visualization import curves, overlays

_HERE = Path(__file__).parent
# Below this width an image's pixels are shown as squares; above the other it is reduced.
SMALL_WIDTH = 256
LARGEST_SIDE = 640
NUM_CONFUSIONS = 10
LONGEST_OPEN_TABLE = 40

_SPELLING = {"iou": "IoU", "f1": "F1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One evaluated image; `title` is its group ("best", "median", "worst"), `score` 0 … 1."""

    title: str
    id: str
    score: SupportsFloat
    image: UInt8[np.ndarray, "h w 3"]
    truth: Integer[np.ndarray, "h w"]
    prediction: Integer[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One evaluation beside others: how the images were looked at, and IoU by class id, 0 … 1."""

    title: str
    mean_iou: SupportsFloat
    seconds_per_image: SupportsFloat | None
    device: str
    iou: Sequence[SupportsFloat]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What `write_report` shows; all but the first four parts may be left empty.

    metrics: name → share in 0 … 1 (nan where undefined), shown in order, the first largest.
    per_class: by class id, dicts of name, color, and any of iou, accuracy, precision, recall,
    f1 (0 … 1, nan where undefined) and pixels. confusion: rows truth, columns prediction.
    comparison: evaluations of the same images, oldest first; shown where there are several.
    history: metrics records, as in `curves.training_panels`. score_name: what Examples' scores are.
    """

    title: str
    subtitle: str
    metrics: Mapping[str, SupportsFloat]
    per_class: Sequence[Mapping[str, Any]]
    confusion: Integer[np.ndarray, "s s"] | None = None
    comparison: Sequence[Column] = ()
    history: Sequence[Mapping[str, Any]] = ()
    examples: Sequence[Example] = ()
    score_name: str = "mean IoU"
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [row["name"] for row in self.per_class]

    @property
    def colors(self) -> list[tuple[int, ...]]:
        return [tuple(int(c) for c in row["color"]) for row in self.per_class]


def write_report(path: Path | str, report: Report) -> Path:
    """Writes `report` to `path` as one HTML file, whole or not at all."""
    return replace_file(path, data=render_report(report).encode(errors="replace"))


def render_report(report: Report) -> str:
    """The HTML of `report`; images are data URIs, the style is inline."""
    body = "\n".join(
        [
            _header(report),
            _section("Training", _training(report)),
            _section("Classes", _classes(report)),
            _section("Examples", _examples(report)),
            _section("Setup", _setup(report)),
        ]
    )
    template = Template((_HERE / "report.html").read_text(encoding="utf-8"))
    css = (_HERE / "report.css").read_text(encoding="utf-8").strip()
    return template.substitute(title=escape(report.title), css=css, body=body)


# --------------------------------------------------------------------------- sections


def _header(report: Report) -> str:
    cards = "".join(
        f'<div class="card"><b>{_percent(value, decimals=2, unit=" %")}</b>'
        f"<span>{escape(_label(name))}</span></div>"
        for name, value in report.metrics.items()
    )
    settings = "".join(
        f"<div><dt>{escape(_label(name))}</dt><dd>{escape(_text(value))}</dd></div>"
        for name, value in report.settings.items()
    )
    return (
        f'<h1>{escape(report.title)}</h1>\n<p class="subtitle">{escape(report.subtitle)}</p>\n'
        + (f'<div class="numbers">{cards}</div>\n' if cards else _note("No metrics were given."))
        + (f'<dl class="settings">{settings}</dl>' if settings else "")
    )


def _training(report: Report) -> str:
    panels = curves.training_panels(report.history)
    if not panels:
        return _note("This report was made without a training history, so there are no curves.")
    return _figures(_figure(panel, title=title) for title, panel in panels.items())


def _classes(report: Report) -> str:
    if not report.per_class:
        return _note("No scores per class were given.")
    figures = []
    if any("iou" in row for row in report.per_class):
        iou = np.array([float(row.get("iou", math.nan)) for row in report.per_class])
        bars = curves.draw_class_iou(iou, names=report.names, colors=report.colors)
        for part, bar in enumerate(bars, start=1):
            which = f" ({part} of {len(bars)})" if len(bars) > 1 else ""
            figures.append(_figure(bar, title=f"IoU per class, %{which}"))
    confusion = ""
    if report.confusion is not None and report.confusion.sum() > 0:
        matrix = curves.draw_confusion(report.confusion, names=report.names)
        title = "Confusion, % of each true class’s pixels"
        figures.append(
            _figure(matrix, title=title, wide=len(report.confusion) > curves.SMALL_MATRIX)
        )
        confusion = _largest_confusions(report.confusion, report)
    else:
        confusion = _note("No confusion matrix was given.")
    return _figures(figures) + confusion + _class_table(report) + _comparison(report)


def _class_table(report: Report) -> str:
    columns = [
        column
        for column in ("iou", "accuracy", "precision", "recall", "f1")
        if any(column in row for row in report.per_class)
    ]
    with_pixels = any("pixels" in row for row in report.per_class)
    head = "".join(
        f"<th>{escape(_label(column))}</th>"
        for column in ["class", *columns, *(["pixels"] if with_pixels else [])]
    )
    rows = []
    for row, color in zip(report.per_class, report.colors, strict=True):
        cells = [f"<td>{_swatch(color)}{escape(row['name'])}</td>"]
        cells += [f"<td>{_percent(row.get(column, math.nan))}</td>" for column in columns]
        if with_pixels:
            cells.append(f"<td>{int(row['pixels']):,}</td>" if "pixels" in row else "<td>–</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _table(
        head,
        rows,
        title="Per class, %" if columns else "Per class",
        folded=len(rows) > LONGEST_OPEN_TABLE,
    )


def _comparison(report: Report) -> str:
    if len(report.comparison) < 2:
        return ""
    titles = "".join(f"<th>{escape(column.title)}</th>" for column in report.comparison)
    means = "".join(f"<td>{_percent(c.mean_iou, decimals=2)}</td>" for c in report.comparison)
    seconds = "".join(f"<td>{_text(c.seconds_per_image)}</td>" for c in report.comparison)
    devices = "".join(f"<td>{escape(c.device)}</td>" for c in report.comparison)
    rows = [
        f"<tr><td>mean</td>{means}</tr>",
        f"<tr><td>seconds per image</td>{seconds}</tr>",
        f"<tr><td>device</td>{devices}</tr>",
    ]
    for index, (name, color) in enumerate(zip(report.names, report.colors, strict=True)):
        cells = "".join(f"<td>{_percent(column.iou[index])}</td>" for column in report.comparison)
        rows.append(f"<tr><td>{_swatch(color)}{escape(name)}</td>{cells}</tr>")
    return _table(
        f"<th>IoU, %</th>{titles}",
        rows,
        title="Evaluations side by side",
        style="comparison",
        folded=len(rows) > LONGEST_OPEN_TABLE,
    )


def _largest_confusions(confusion: np.ndarray, report: Report) -> str:
    shares = np.nan_to_num(curves.row_shares(confusion))
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:NUM_CONFUSIONS]
    rows = []
    for truth, prediction in zip(*np.unravel_index(order, shares.shape), strict=True):
        if shares[truth, prediction] > 0:
            names = (
                f"<td>{_swatch(report.colors[i])}{escape(report.names[i])}</td>"
                for i in (truth, prediction)
            )
            share = _percent(shares[truth, prediction], unit=" %")
            pixels = f"{int(confusion[truth, prediction]):,}"
            rows.append(f"<tr>{''.join(names)}<td>{share}</td><td>{pixels}</td></tr>")
    if not rows:
        return _note("Not one pixel was confused.")
    head = "<th>truth</th><th>predicted as</th><th>of the truth</th><th>pixels</th>"
    return _table(head, rows, title="Most frequent confusions", style="confusions")


def _examples(report: Report) -> str:
    if not report.examples:
        return _note("No example images were kept.")
    seen = np.unique(
        np.concatenate([np.unique(x) for e in report.examples for x in (e.truth, e.prediction)])
    )
    legend = [
        f"<li>{_swatch(color)}{escape(name)}</li>"
        for i, (name, color) in enumerate(zip(report.names, report.colors, strict=True))
        if i in seen
    ]
    if overlays.IGNORE_LABEL in seen:
        legend.append(f"<li>{_swatch(overlays.IGNORE_COLOR)}ignored</li>")
    return f'<ul class="legend">{"".join(legend)}</ul>\n' + "\n".join(
        _example(example, report) for example in report.examples
    )


def _example(example: Example, report: Report) -> str:
    size = "small" if example.image.shape[1] < SMALL_WIDTH else "large"
    pictures = {
        "image": _reduced(example.image, interpolation=cv2.INTER_AREA),
        "truth": _colored(example.truth, report),
        "prediction": _colored(example.prediction, report),
    }
    figures = "".join(
        f'<figure><img alt="{escape(f"{name} of {example.id}")}" '
        f'width="{picture.shape[1]}" height="{picture.shape[0]}" '
        f'src="{_data_uri(overlays.encode_image_png(picture), kind="png")}">'
        f"<figcaption>{name}</figcaption></figure>"
        for name, picture in pictures.items()
    )
    score = f"{escape(report.score_name)} {_percent(example.score, unit=' %')}"
    return (
        f'<article class="card example {size}"><header><b>{escape(example.title)}</b>'
        f"<span>{escape(example.id)}</span><span>{score}</span></header>"
        f'<div class="triplet">{figures}</div></article>'
    )


def _setup(report: Report) -> str:
    if not report.config and not report.versions:
        return _note("Neither config nor versions were given.")
    parts = []
    if report.config:
        block = "\n".join(_yaml(report.config))
        parts.append(f'<details class="card"><summary>Config</summary><pre>{block}</pre></details>')
    if report.versions:
        block = "\n".join(_yaml(report.versions))
        parts.append(
            f'<details class="card"><summary>Versions</summary><pre>{block}</pre></details>'
        )
    return "\n".join(parts)


# --------------------------------------------------------------------------- pieces


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{content}\n</section>"


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _figures(figures: Iterable[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>\n'


def _figure(figure: Figure, *, title: str, wide: bool = False) -> str:
    uri = _data_uri(curves.to_svg(figure), kind="svg+xml")
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return (
        f'<figure class="card{" wide" if wide else ""}"><h3>{escape(title)}</h3>'
        f'<div class="scroll"><img alt="{escape(title)}" width="{width}" height="{height}" '
        f'src="{uri}"></div></figure>'
    )


def _table(
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


def _swatch(color: Sequence[int]) -> str:
    red, green, blue = color
    return f'<i class="swatch" style="background:rgb({red},{green},{blue})"></i>'


def _colored(label: np.ndarray, report: Report) -> np.ndarray:
    # Reduced as ids, not as colours: mixed colours would stand for no class.
    small = _reduced(label.astype(np.uint8), interpolation=cv2.INTER_NEAREST)
    return overlays.colorize(small, colors=report.colors)


def _reduced(array: np.ndarray, *, interpolation: int) -> np.ndarray:
    height, width = array.shape[:2]
    scale = LARGEST_SIDE / max(height, width)
    if scale >= 1:
        return array
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return cv2.resize(array, size, interpolation=interpolation)


def _data_uri(data: bytes, *, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _label(name: str) -> str:
    return " ".join(_SPELLING.get(word, word) for word in name.split("_"))


def _percent(value: SupportsFloat, *, decimals: int = 1, unit: str = "") -> str:
    return f"{100 * float(value):.{decimals}f}{unit}" if math.isfinite(float(value)) else "–"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _yaml(value: Mapping[str, Any], *, indent: int = 0) -> list[str]:
    """Escaped lines, a nested mapping indented under its key."""
    lines = []
    for key, item in value.items():
        start = f'{"  " * indent}<span class="key">{escape(str(key))}</span>:'
        if isinstance(item, Mapping) and item:
            lines += [start, *_yaml(item, indent=indent + 1)]
        else:
            lines.append(f"{start} {escape(_scalar(item))}")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    default: Callable[[Any], str] = str
    return json.dumps(value, ensure_ascii=False, default=default)
