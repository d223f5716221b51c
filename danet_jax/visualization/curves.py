"""Figures of a run: training curves, IoU per class, confusion matrix; as SVG.

Figures are made without pyplot, so that any thread may draw.
"""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from danet_jax.base.texts import one_line
from danet_jax.visualization.overlays import Colors

History = Sequence[Mapping[str, Any]]

# These four colours stand for roles; `to_svg` replaces them under a dark colour scheme.
INK, MUTED, GRID, CELL_INK = "#1f2329", "#6b7281", "#e3e6eb", "#030104"
DARK = {INK: "#e8eaee", MUTED: "#9aa3b0", GRID: "#343a45", CELL_INK: "#ffffff"}
BLACK = "#000000"
# The background of every figure in the dark scheme.
DARK_CARD = "#181c22"
BLUE, ORANGE, GREEN, VIOLET = "#3b82f6", "#f97316", "#10b981", "#8b5cf6"

PANEL_SIZE = (5.4, 3.1)
SMALL_MATRIX, LARGEST_NUMBERED_MATRIX = 12, 25
BARS_PER_COLUMN = 30


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Draws with Matplotlib's defaults, whatever a matplotlibrc says.

    Matplotlib reads one from the current folder first, and it may name programs to start.
    """
    settings: Any = {
        name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"
    }
    # The SVG writer takes these only as global settings.
    settings |= {"svg.fonttype": "none", "svg.hashsalt": "danet"}
    with matplotlib.rc_context(settings):
        yield


@own_settings()
def training_panels(history: History) -> dict[str, Figure]:
    """Title → one figure each, of what `history` holds: loss, scores, learning rate, throughput.

    `history`: training records ("step", "loss", "loss_fused", …, "learning_rate",
    "images_per_second") and evaluation records ("step", "mean_iou", "pixel_accuracy"), mixed;
    any key may be missing. Of two records of one step (a resumed run) the later counts.
    """
    panels = {}
    for title, draw in _PANELS.items():
        figure, axes = _figure(PANEL_SIZE)
        if draw(axes, history):
            panels[title] = figure
    return panels


@own_settings()
def draw_class_iou(
    iou: Float[np.ndarray, " s"], *, names: Sequence[str], colors: Colors
) -> list[Figure]:
    """Bars of IoU, best first, in the classes' colours; nan (class does not occur) as "–".

    `iou` in 0 … 1. Up to 12 classes make one figure; more make two columns of at most 30 bars,
    then four, … so that each stays readable.
    """
    order = np.argsort(-np.nan_to_num(iou, nan=-1), kind="stable")
    columns = 1 if len(iou) <= SMALL_MATRIX else 2 * math.ceil(len(iou) / (2 * BARS_PER_COLUMN))
    return [_bars(iou, part, names=names, colors=colors) for part in np.array_split(order, columns)]


@own_settings()
def draw_confusion(confusion: Integer[np.ndarray, "s s"], *, names: Sequence[str]) -> Figure:
    """Rows truth, columns prediction, each row divided by its sum; blue is right, orange wrong.

    Percentages stand in the cells up to 25 classes. A class without pixels is marked "–".
    """
    count = len(confusion)
    shares = row_shares(confusion)
    side = float(np.clip(2.2 + 0.42 * count, 3.6, 10.5))
    figure, axes = _figure((side + 0.4, side))
    _clean(axes, grid=False)

    # The square root makes rare mistakes visible. Opacity suits a light and a dark background.
    opacity = np.sqrt(np.nan_to_num(shares))
    rgba = np.zeros((count, count, 4), np.float32)
    rgba[..., :3] = matplotlib.colors.to_rgb(ORANGE)
    rgba[np.eye(count, dtype=bool), :3] = matplotlib.colors.to_rgb(BLUE)
    rgba[..., 3] = opacity
    axes.imshow(rgba, interpolation="none", aspect="equal")

    cell = 72 * (side - 1.2) / count  # points
    if count <= LARGEST_NUMBERED_MATRIX:
        _number_cells(axes, shares, opacity, font_size=min(8.5, cell / 2.6))
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=GRID, linewidth=0.6)
    # With more classes than lines of text, every second, third … is named.
    stride = max(1, math.ceil(5 / cell))
    ticks = np.arange(0, count, stride)
    labels = [_short(names[int(i)]) for i in ticks]
    font_size = float(np.clip(0.8 * cell * stride, 4, 9))
    axes.set_xticks(ticks, labels, rotation=45 if count <= SMALL_MATRIX else 90, parse_math=False)
    axes.set_yticks(ticks, labels, parse_math=False)
    if count <= SMALL_MATRIX:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.tick_params(which="both", length=0, labelsize=font_size, pad=3)
    axes.set_xlabel("prediction", color=MUTED, fontsize=10)
    axes.set_ylabel("truth", color=MUTED, fontsize=10)
    return figure


def row_shares(confusion: Integer[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
    """Each row divided by its sum; nan where a class has no pixels."""
    totals = confusion.sum(axis=1, keepdims=True).astype(np.float64)
    return np.divide(confusion, totals, out=np.full(confusion.shape, np.nan), where=totals > 0)


def to_svg(figure: Figure) -> bytes:
    """An SVG with real text, a transparent background and a dark variant of its own."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    with own_settings(), warnings.catch_warnings():
        # Matplotlib warns of scripts that it cannot draw; the browser draws the text itself.
        warnings.filterwarnings("ignore", r"Glyph \d+ |Matplotlib currently does not support ")
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    svg = buffer.getvalue().replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")
    for light in DARK:
        svg = svg.replace(light, f"var(--c{light[1:]}, {light})")
    light_style = " ".join(f"--c{light[1:]}: {light};" for light in DARK)
    dark_style = " ".join(f"--c{light[1:]}: {dark};" for light, dark in DARK.items())
    style = (
        f"<style>svg {{ {light_style} }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {dark_style} }} }}</style>"
    )
    return re.sub(r"<svg\b[^>]*>", lambda tag: tag[0] + style, svg, count=1).encode()


# --------------------------------------------------------------------------- panels


def _draw_loss(axes: Axes, history: History) -> bool:
    colors = {"position": ORANGE, "channel": GREEN, "fused": BLUE}
    maps = {key.removeprefix("loss_") for record in history for key in record if "loss_" in key}
    lines = {"loss": ("weighted sum", MUTED)}
    # The fused map is drawn last, above the others.
    for name in (*sorted(maps - colors.keys()), *colors):
        lines[f"loss_{name}"] = (name, colors.get(name, VIOLET))
    if not _draw_lines(axes, history, lines, smooth=True):
        return False
    if axes.dataLim.y0 > 0 and axes.dataLim.y1 > 5 * axes.dataLim.y0:
        # On a linear axis late progress would be invisible beside the first losses.
        axes.set_yscale("log")
        axes.autoscale(axis="y")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    return True


def _draw_scores(axes: Axes, history: History) -> bool:
    lines = {"pixel_accuracy": ("pixel accuracy", GREEN), "mean_iou": ("mean IoU", BLUE)}
    if not _draw_lines(axes, history, lines, smooth=False):
        return False
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    steps, values = _series(history, "mean_iou")
    if len(steps):
        best = int(np.argmax(values))
        axes.annotate(
            f"best {100 * values[best]:.1f} %",
            (steps[best], values[best]),
            xytext=(0, -9),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9,
            color=INK,
        )
    return True


def _draw_learning_rate(axes: Axes, history: History) -> bool:
    return _draw_lines(axes, history, {"learning_rate": ("learning rate", VIOLET)}, smooth=False)


def _draw_throughput(axes: Axes, history: History) -> bool:
    lines = {"images_per_second": ("images / s", BLUE)}
    return _draw_lines(axes, history, lines, smooth=True)


_PANELS: dict[str, Callable[[Axes, History], bool]] = {
    "Loss": _draw_loss,
    "Evaluation": _draw_scores,
    "Learning rate": _draw_learning_rate,
    "Images per second": _draw_throughput,
}


def _draw_lines(
    axes: Axes, history: History, lines: Mapping[str, tuple[str, str]], *, smooth: bool
) -> bool:
    drawn = 0
    for key, (label, color) in lines.items():
        steps, values = _series(history, key)
        if not len(steps):
            continue
        window = min(len(steps) // 40, 101) if smooth else 0
        if window > 1:
            axes.plot(steps, values, color=color, linewidth=0.6, alpha=0.22)
            values = _running_median(values, window)
        marker = "o" if len(steps) <= 25 else None
        axes.plot(steps, values, color=color, linewidth=1.8, marker=marker, ms=3.2, label=label)
        drawn += 1
    if drawn > 1:
        legend = axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=4, frameon=False, fontsize=9,
            handlelength=1.2, columnspacing=1.2, borderaxespad=0.2, reverse=True,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_color(INK)
    axes.set_xlabel("step", color=MUTED, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if drawn and axes.get_ylim()[0] > 0:
        axes.set_ylim(bottom=0)
    return drawn > 0


def _series(history: History, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Finite values of `key` by rising step."""
    points = {
        int(record["step"]): float(record[key])
        for record in history
        if record.get("step") is not None and record.get(key) is not None
    }
    finite = sorted((step, value) for step, value in points.items() if math.isfinite(value))
    return np.array([s for s, _ in finite]), np.array([v for _, v in finite])


def _running_median(values: np.ndarray, window: int) -> np.ndarray:
    """The median round each value; unlike a mean, one step that compiled does not move it."""
    half = window // 2
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(values, half, mode="symmetric"), 2 * half + 1
    )
    return np.median(windows, axis=-1)


# --------------------------------------------------------------------------- bars, cells


def _bars(iou: np.ndarray, order: np.ndarray, *, names: Sequence[str], colors: Colors) -> Figure:
    # Few bars are set wider, to stand beside the confusion matrix.
    pitch = 0.42 if len(iou) <= SMALL_MATRIX else 0.27
    figure, axes = _figure((PANEL_SIZE[0], 0.7 + pitch * len(order)))
    _clean(axes, grid=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    rows = np.arange(len(order))
    values = iou[order]
    axes.barh(
        rows,
        np.nan_to_num(values),
        height=0.66,
        color=[tuple(int(c) / 255 for c in colors[i]) for i in order],
        # The outline keeps near-white and near-black classes visible.
        edgecolor=MUTED,
        linewidth=0.5,
    )
    for row, value in zip(rows, values, strict=True):
        text = "–" if math.isnan(value) else f"{100 * value:.1f}"
        axes.annotate(
            text, (0 if math.isnan(value) else value, row), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=9, color=INK,
        )  # fmt: skip
    axes.set_yticks(rows, [_short(names[i]) for i in order], parse_math=False)
    axes.set_xlim(0, 1.1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=9.5, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return figure


def _number_cells(axes: Axes, shares: np.ndarray, opacity: np.ndarray, *, font_size: float) -> None:
    decimals = 1 if len(shares) <= 10 else 0
    for (row, column), share in np.ndenumerate(shares):
        text = f"{100 * share:.{decimals}f}"
        if math.isnan(share):
            text = "–" if row == column else ""
        elif float(text) == 0:
            # Zeros are left out, as many of them would hide the mistakes.
            text = ""
        color = text_on_cell(BLUE if row == column else ORANGE, opacity=float(opacity[row, column]))
        axes.text(column, row, text, ha="center", va="center", fontsize=font_size, color=color)


def text_on_cell(color: str, *, opacity: float) -> str:
    """The colour of a number on a cell, with a contrast of 4.5 or more on either page (WCAG 2.1).

    On the light page black has it on all cells; on the dark one white has it up to a luminance of
    0.183, and black from 0.175 on.
    """
    card, full = (np.array(matplotlib.colors.to_rgb(c)) for c in (DARK_CARD, color))
    blended = card + opacity * (full - card)
    linear = np.where(blended <= 0.04045, blended / 12.92, ((blended + 0.055) / 1.055) ** 2.4)
    return CELL_INK if linear @ [0.2126, 0.7152, 0.0722] < 0.179 else BLACK


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    _clean(axes)
    return figure, axes


def _clean(axes: Axes, *, grid: bool = True) -> None:
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(grid, color=GRID, linewidth=0.8) if grid else axes.grid(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom" and grid)
        spine.set_color(GRID)
    axes.tick_params(length=0, labelsize=9, labelcolor=MUTED)


def _short(name: str, *, length: int = 22) -> str:
    # Longer labels would leave the axes no room.
    name = one_line(name)
    return name if len(name) <= length else name[: length - 1] + "…"
