"""A data set on one page: its classes, sizes and samples, and warnings about it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Integer, UInt8
from markupsafe import Markup

from danet_jax.visualization import overlays, pages

NUM_SAMPLES = 16
LONGEST_OPEN_TABLE = 40
NUM_SIZES = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitContent:
    """The content of a split: pixels and images by class id, ignored pixels, and images by "WxH",
    the most frequent first."""

    examples: int
    class_pixels: Integer[np.ndarray, " s"]
    images_with_class: Integer[np.ndarray, " s"]
    ignored_pixels: int
    sizes: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One example."""

    id: str
    image: UInt8[np.ndarray, "h w 3"]
    label: Integer[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """What `write_dataset_report` shows.

    `facts` are further names and values for its header, `unit` is what its examples are called.
    """

    title: str
    subtitle: str
    names: Sequence[str]
    colors: Sequence[tuple[int, int, int]]
    splits: Mapping[str, SplitContent]
    warnings: Sequence[str]
    samples: Sequence[Sample]
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unit: str = "images"


def write_dataset_report(path: Path | str, report: DatasetReport) -> Path:
    """Writes `report` to `path` as one HTML file, whole or not at all."""
    return pages.write(path, render_dataset_report(report))


def render_dataset_report(report: DatasetReport) -> str:
    """The HTML of `report`."""
    return pages.page(
        report.title,
        _header(report),
        pages.section("Warnings", _warnings(report)),
        pages.section("Samples", _samples(report)),
        pages.section("Classes", _classes(report)),
        pages.section("Sizes", _sizes(report)),
    )


def _header(report: DatasetReport) -> Markup:
    numbers = {f"{split} {report.unit}": f"{c.examples:,}" for split, c in report.splits.items()}
    numbers["classes"] = str(len(report.names))
    labelled = sum(int(content.class_pixels.sum()) for content in report.splits.values())
    ignored = sum(content.ignored_pixels for content in report.splits.values())
    if labelled + ignored:
        numbers["of the pixels ignored"] = pages.percent(
            ignored / (labelled + ignored), decimals=1, unit=" %"
        )
    return (
        pages.title(report.title, report.subtitle)
        + pages.cards(numbers)
        + pages.facts(report.facts)
    )


def _warnings(report: DatasetReport) -> Markup:
    if not report.warnings:
        return pages.note("No file and no class looks wrong. Check the samples nevertheless.")
    items = (pages.tag("li", text[:1].upper() + text[1:]) for text in report.warnings)
    return pages.tag("ul", *items, class_="card warnings")


def _samples(report: DatasetReport) -> Markup:
    if not report.samples:
        return pages.note("There are no labelled examples.")
    labels = [sample.label for sample in report.samples]
    content = (_sample(sample, report) for sample in report.samples)
    legend = pages.legend(labels, names=report.names, colors=report.colors)
    return legend + pages.tag("div", *content, class_="samples")


def _sample(sample: Sample, report: DatasetReport) -> Markup:
    image = pages.reduced(sample.image, interpolation=cv2.INTER_AREA)
    label = pages.reduced(sample.label.astype(np.uint8), interpolation=cv2.INTER_NEAREST)
    tinted = overlays.overlay(image, label, colors=report.colors)
    ids = [int(id) for id in np.unique(sample.label)]
    shown = [report.names[id] for id in ids if id != overlays.IGNORE_LABEL]
    pictures = (
        pages.picture(image, alt=f"image {sample.id}", caption=sample.id, lossy=True),
        pages.picture(
            tinted,
            alt=f"labels of {sample.id}",
            caption=", ".join(shown) or "nothing labelled",
            lossy=True,
        ),
    )
    return pages.tag("article", pages.tag("div", *pictures, class_="pair"), class_="card sample")


def _classes(report: DatasetReport) -> Markup:
    labelled = {split: c for split, c in report.splits.items() if c.class_pixels.any()}
    if not labelled:
        return pages.note("No split has labelled pixels.")
    head = pages.column_heads(
        "class",
        *(name for split in labelled for name in (f"{split}, % of labelled pixels", "images")),
    )
    total = sum(content.class_pixels for content in labelled.values())
    rows = []
    for id in np.argsort(-np.asarray(total), kind="stable"):
        cells = [pages.row_head(pages.swatch(report.colors[id]), report.names[id])]
        for content in labelled.values():
            share = content.class_pixels[id] / content.class_pixels.sum()
            cells.append(pages.tag("td", pages.bar(float(share))))
            cells.append(pages.tag("td", f"{int(content.images_with_class[id]):,}"))
        rows.append(pages.row(*cells))
    return pages.table(
        head,
        rows,
        title="Pixels and images by class, the most frequent first",
        style="shares",
        folded=len(rows) > LONGEST_OPEN_TABLE,
    )


def _sizes(report: DatasetReport) -> Markup:
    rows = []
    for split, content in report.splits.items():
        shown = list(content.sizes.items())[:NUM_SIZES]
        rest = content.examples - sum(count for _, count in shown)
        if rest:
            shown.append((f"{len(content.sizes) - NUM_SIZES} other sizes", rest))
        for size, count in shown:
            heads = pages.row_head(split), pages.row_head(size.replace("x", " × "))
            share = pages.tag("td", pages.bar(count / content.examples))
            rows.append(pages.row(*heads, share, f"{count:,}"))
    head = pages.column_heads("split", "width × height", "% of images", "images")
    return pages.table(head, rows, title="Images by size", style="shares sizes")
