import math
import os
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from danet_jax.visualization import curves
from tests.launcher import ROOT

HISTORY = [
    {"step": 10, "loss": 6.0, "loss_fused": 2.0, "loss_position": 1.5, "loss_channel": 2.5,
     "learning_rate": 0.01, "images_per_second": 4.0},
    {"step": 20, "loss": 3.0, "loss_fused": 1.0, "learning_rate": 0.005},
    {"step": 20, "mean_iou": 0.25, "pixel_accuracy": 0.5},
    {"step": 30, "loss": math.nan, "loss_fused": None},
    {"step": 30, "mean_iou": 0.4567},
]  # fmt: skip


def lines(figure):
    return {
        line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist())
        for line in figure.axes[0].get_lines()
    }


def texts(svg: bytes):
    return [
        "".join(e.itertext()) for e in ElementTree.fromstring(svg).iter() if e.tag[-4:] == "text"
    ]


def test_panels_hold_the_numbers_of_the_history():
    panels = curves.training_panels(HISTORY)
    assert list(panels) == ["Loss", "Evaluation", "Learning rate", "Images per second"]
    assert lines(panels["Loss"]) == {
        "weighted sum": ([10, 20], [6, 3]),
        "position": ([10], [1.5]),
        "channel": ([10], [2.5]),
        "fused": ([10, 20], [2, 1]),
    }
    assert lines(panels["Evaluation"]) == {
        "pixel accuracy": ([20], [0.5]),
        "mean IoU": ([20, 30], [0.25, 0.4567]),
    }
    assert "best 45.7 %" in texts(curves.to_svg(panels["Evaluation"]))


def test_panels_without_data_are_left_out():
    assert curves.training_panels([]) == {}
    assert list(curves.training_panels([{"step": 1, "mean_iou": 0.5}])) == ["Evaluation"]
    assert list(curves.training_panels([{"step": 1, "loss": math.inf}, {"loss": 1.0}])) == []


def test_a_resumed_run_counts_the_later_record_and_sorts_by_step():
    history = [{"step": s, "learning_rate": v} for s, v in [(1, 9.0), (3, 3.0), (1, 1.0), (2, 2.0)]]
    panel = curves.training_panels(history)["Learning rate"]
    assert lines(panel) == {"learning rate": ([1, 2, 3], [1, 2, 3])}


def test_one_slow_step_does_not_move_the_smoothed_line():
    history = [{"step": s, "images_per_second": 1.0 if s == 0 else 40.0} for s in range(200)]
    panel = curves.training_panels(history)["Images per second"]
    raw, smooth = (line.get_ydata() for line in panel.axes[0].get_lines())
    assert raw[0] == 1
    assert smooth.tolist() == [40] * 200


def test_bars_are_sorted_in_class_colours_with_absent_classes_last():
    (figure,) = curves.draw_class_iou(
        np.array([0.5, math.nan, 0.912]),
        names=["sky", "$a$ b$", "tree"],
        colors=[(0, 0, 255), (0, 255, 0), (255, 0, 0)],
    )
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.912, 0.5, 0]
    assert [bar.get_facecolor()[:3] for bar in bars] == [(1, 0, 0), (0, 0, 1), (0, 1, 0)]
    shown = texts(curves.to_svg(figure))
    assert {"tree", "sky", "$a$ b$", "91.2", "50.0", "–"} <= set(shown)


@pytest.mark.parametrize(("classes", "figures"), [(1, 1), (12, 1), (13, 2), (60, 2), (171, 6)])
def test_many_bars_are_spread_over_columns(classes, figures):
    iou = np.linspace(0, 1, classes)
    names = [f"class {i}" for i in range(classes)]
    drawn = curves.draw_class_iou(iou, names=names, colors=[(1, 2, 3)] * classes)
    assert len(drawn) == figures
    widths = [bar.get_width() for figure in drawn for bar in figure.axes[0].patches]
    assert widths == sorted(iou, reverse=True)


def test_row_shares():
    shares = curves.row_shares(np.array([[3, 1], [0, 0]]))
    np.testing.assert_array_equal(shares, [[0.75, 0.25], [math.nan, math.nan]])


def test_confusion_shows_row_percentages():
    confusion = np.array([[3, 1, 0], [0, 0, 0], [1, 0, 2]])
    figure = curves.draw_confusion(confusion, names=["sky", "tree", "car"])
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert {position: text for position, text in cells.items() if text} == {
        (0, 0): "75.0",
        (1, 0): "25.0",
        (1, 1): "–",
        (0, 2): "33.3",
        (2, 2): "66.7",
    }
    inks = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    for text, cell, share in [
        ("75.0", curves.BLUE, 3 / 4),
        ("66.7", curves.BLUE, 2 / 3),
        ("33.3", curves.ORANGE, 1 / 3),
        ("–", curves.BLUE, 0),
    ]:
        assert inks[text] == curves.text_on_cell(cell, opacity=share**0.5)
    assert set(inks.values()) == {curves.BLACK, curves.CELL_INK}
    (image,) = figure.axes[0].get_images()
    np.testing.assert_allclose(image.get_array()[0, :, 3], np.sqrt([0.75, 0.25, 0]), rtol=1e-6)
    assert {"sky", "tree", "car", "truth", "prediction"} <= set(texts(curves.to_svg(figure)))


def luminance(rgb):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def rgb(color):
    return np.array(matplotlib.colors.to_rgb(color))


@pytest.mark.parametrize("cell", [curves.BLUE, curves.ORANGE])
@pytest.mark.parametrize("dark", [False, True])
def test_the_numbers_of_a_confusion_can_be_read_on_any_cell(cell, dark):
    css = (Path(curves.__file__).parent / "page.css").read_text()
    card = re.findall("--card: (#[0-9a-f]{6});", css)[dark]
    for opacity in np.linspace(0, 1, 1001):
        ink = curves.text_on_cell(cell, opacity=opacity)
        text = luminance(rgb(curves.DARK.get(ink, ink) if dark else ink))
        behind = luminance(opacity * rgb(cell) + (1 - opacity) * rgb(card))
        assert (max(text, behind) + 0.05) / (min(text, behind) + 0.05) >= 4.5


@pytest.mark.parametrize(("classes", "named", "numbers"), [(25, 25, 25), (26, 26, 0), (171, 86, 0)])
def test_large_confusions_leave_out_what_cannot_be_read(classes, named, numbers):
    confusion = np.eye(classes, dtype=np.int64) * 7
    names = [f"a rather long class name {i}" for i in range(classes)]
    figure = curves.draw_confusion(confusion, names=names)
    assert len(figure.axes[0].get_yticklabels()) == named
    assert len([t for t in figure.axes[0].texts if t.get_text() == "100"]) == numbers
    assert curves.to_svg(figure).startswith(b"<?xml")


def test_svg_is_the_same_each_time_and_follows_the_colour_scheme():
    svg, again = (curves.to_svg(curves.training_panels(HISTORY)["Loss"]) for _ in range(2))
    assert svg == again
    assert b"prefers-color-scheme: dark" in svg
    assert f"var(--c1f2329, {curves.INK})".encode() in svg


def test_names_in_any_script_are_text_and_no_warning():
    # Warnings are errors here; Matplotlib's font has no Chinese.
    names = ["天空", "सड़क", "🌳"]
    figure = curves.draw_confusion(np.eye(3, dtype=np.int64), names=names)
    assert set(names) <= set(texts(curves.to_svg(figure)))
    (figure,) = curves.draw_class_iou(np.ones(3), names=names, colors=[(1, 2, 3)] * 3)
    assert set(names) <= set(texts(curves.to_svg(figure)))


def test_settings_of_the_current_folder_do_nothing(tmp_path):
    """Matplotlib reads a matplotlibrc from there, by which it would start TeX."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 9\n")
    script = (
        "import sys, matplotlib, numpy as np\n"
        "from danet_jax.visualization import curves\n"
        "figure = curves.draw_confusion(np.eye(2, dtype=int), names=['a', 'b'])\n"
        "panels = curves.training_panels([{'step': 1, 'loss': 2.0}, {'step': 2, 'loss': 1.0}])\n"
        "svg = curves.to_svg(figure) + b''.join(map(curves.to_svg, panels.values()))\n"
        "sys.stdout.buffer.write(b'%d ' % matplotlib.rcParams['text.usetex'] + svg)\n"
    )
    drawn = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        ).stdout
        for folder in (tmp_path, tmp_path.parent)
    ]
    assert [text[:2] for text in drawn] == [b"1 ", b"0 "]
    assert drawn[0][2:] == drawn[1][2:]


def test_nothing_global_is_left_changed():
    before = dict(matplotlib.rcParams)
    done = threading.Thread(target=lambda: curves.to_svg(curves.training_panels(HISTORY)["Loss"]))
    done.start()
    done.join()
    assert dict(matplotlib.rcParams) == before
