"""The results of a run as one HTML file without scripts, which loads nothing else."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import cv2
import numpy as np
from jaxtyping import Integer, UInt8
from markupsafe import Markup

from danet_jax.visualization import curves, pages

NUM_CONFUSIONS = 10
LONGEST_OPEN_TABLE = 40


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
    """One of several evaluations: its inference settings (title) and IoU by class id, 0 … 1."""

    title: str
    mean_iou: SupportsFloat
    seconds_per_image: SupportsFloat | None
    device: str
    iou: Sequence[SupportsFloat]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What `write_report` shows; all but the first four parts may be left empty.

    metrics: name → share in 0 … 1 (nan where undefined), shown in order, the first largest.
    per_class: by class id, dicts of name, color, and any of iou, precision, recall, f1 (0 … 1, nan
    where undefined) and pixels. confusion: rows truth, columns prediction.
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
    return pages.write(path, render_report(report))


def render_report(report: Report) -> str:
    """The HTML of `report`; images are data URIs, the style is inline."""
    return pages.page(
        report.title,
        _header(report),
        pages.section("Training", _training(report)),
        pages.section("Classes", _classes(report)),
        pages.section("Examples", _examples(report)),
        pages.section("Setup", _setup(report)),
    )


# --------------------------------------------------------------------------- sections


def _header(report: Report) -> Markup:
    cards = {
        pages.label(name): pages.percent(value, decimals=2, unit=" %")
        for name, value in report.metrics.items()
    }
    settings = {pages.label(name): pages.text(value) for name, value in report.settings.items()}
    return (
        pages.title(report.title, report.subtitle)
        + (pages.cards(cards) if cards else pages.note("No metrics were given."))
        + pages.facts(settings)
    )


def _training(report: Report) -> Markup:
    panels = curves.training_panels(report.history)
    if not panels:
        return pages.note(
            "This report was made without a training history, so there are no curves."
        )
    return pages.figures(pages.figure(panel, title=title) for title, panel in panels.items())


def _classes(report: Report) -> Markup:
    if not report.per_class:
        return pages.note("No scores per class were given.")
    figures = []
    if any("iou" in row for row in report.per_class):
        iou = np.array([float(row.get("iou", math.nan)) for row in report.per_class])
        bars = curves.draw_class_iou(iou, names=report.names, colors=report.colors)
        for part, bar in enumerate(bars, start=1):
            which = f" ({part} of {len(bars)})" if len(bars) > 1 else ""
            figures.append(pages.figure(bar, title=f"IoU per class, %{which}"))
    confusion = ""
    if report.confusion is not None and report.confusion.sum() > 0:
        matrix = curves.draw_confusion(report.confusion, names=report.names)
        title = "Confusion, % of each true class’s pixels"
        figures.append(
            pages.figure(matrix, title=title, wide=len(report.confusion) > curves.SMALL_MATRIX)
        )
        confusion = _largest_confusions(report.confusion, report)
    else:
        confusion = pages.note("No confusion matrix was given.")
    return pages.figures(figures) + confusion + _class_table(report) + _comparison(report)


def _class_table(report: Report) -> Markup:
    columns = [
        column
        for column in ("iou", "precision", "recall", "f1")
        if any(column in row for row in report.per_class)
    ]
    with_pixels = any("pixels" in row for row in report.per_class)
    head = pages.column_heads(
        "class", *map(pages.label, columns), *(["pixels"] if with_pixels else [])
    )
    rows = []
    for row, color in zip(report.per_class, report.colors, strict=True):
        cells = [pages.percent(row.get(column, math.nan)) for column in columns]
        if with_pixels:
            cells.append(f"{int(row['pixels']):,}" if "pixels" in row else "–")
        rows.append(pages.row(pages.row_head(pages.swatch(color), row["name"]), *cells))
    return pages.table(
        head,
        rows,
        title="Per class, %" if columns else "Per class",
        folded=len(rows) > LONGEST_OPEN_TABLE,
    )


def _comparison(report: Report) -> Markup:
    if len(report.comparison) < 2:
        return Markup("")
    columns = report.comparison
    rows = [
        pages.row(
            pages.row_head("mean"), *(pages.percent(c.mean_iou, decimals=2) for c in columns)
        ),
        pages.row(
            pages.row_head("seconds per image"), *(pages.text(c.seconds_per_image) for c in columns)
        ),
        pages.row(pages.row_head("device"), *(c.device for c in columns)),
    ]
    for index, (name, color) in enumerate(zip(report.names, report.colors, strict=True)):
        cells = (pages.percent(column.iou[index]) for column in columns)
        rows.append(pages.row(pages.row_head(pages.swatch(color), name), *cells))
    return pages.table(
        pages.column_heads("IoU, %", *(column.title for column in report.comparison)),
        rows,
        title="Evaluations side by side",
        style="comparison",
        folded=len(rows) > LONGEST_OPEN_TABLE,
    )


def _largest_confusions(confusion: np.ndarray, report: Report) -> Markup:
    shares = np.nan_to_num(curves.row_shares(confusion))
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:NUM_CONFUSIONS]
    rows = []
    for truth, prediction in zip(*np.unravel_index(order, shares.shape), strict=True):
        if shares[truth, prediction] > 0:
            names = (
                pages.row_head(pages.swatch(report.colors[i]), report.names[i])
                for i in (truth, prediction)
            )
            share = pages.percent(shares[truth, prediction], unit=" %")
            pixels = f"{int(confusion[truth, prediction]):,}"
            rows.append(pages.row(*names, share, pixels))
    if not rows:
        return pages.note("No pixel was misclassified.")
    head = pages.column_heads("truth", "predicted as", "of the truth", "pixels")
    return pages.table(head, rows, title="Most frequent confusions", style="confusions")


def _examples(report: Report) -> Markup:
    if not report.examples:
        return pages.note("This report has no example images.")
    labels = [label for e in report.examples for label in (e.truth, e.prediction)]
    return pages.legend(labels, names=report.names, colors=report.colors) + Markup("\n").join(
        _example(example, report) for example in report.examples
    )


def _example(example: Example, report: Report) -> Markup:
    size = "small" if example.image.shape[1] < pages.SMALL_WIDTH else "large"
    pictures = {
        "image": pages.reduced(example.image, interpolation=cv2.INTER_AREA),
        "truth": pages.colored(example.truth, colors=report.colors),
        "prediction": pages.colored(example.prediction, colors=report.colors),
    }
    figures = (
        pages.picture(picture, alt=f"{name} of {example.id}", caption=name)
        for name, picture in pictures.items()
    )
    score = f"{report.score_name} {pages.percent(example.score, unit=' %')}"
    header = pages.tag(
        "header",
        pages.tag("b", example.title),
        pages.tag("span", example.id),
        pages.tag("span", score),
    )
    triplet = pages.tag("div", *figures, class_="triplet")
    return pages.tag("article", header, triplet, class_=f"card example {size}")


def _setup(report: Report) -> Markup:
    if not report.config and not report.versions:
        return pages.note("Neither config nor versions were given.")
    parts = {"Config": report.config, "Versions": report.versions}
    return Markup("\n").join(
        pages.tag(
            "details",
            pages.tag("summary", title),
            pages.tag("pre", Markup("\n").join(pages.yaml(values))),
            class_="card",
        )
        for title, values in parts.items()
        if values
    )
