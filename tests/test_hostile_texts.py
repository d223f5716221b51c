"""Texts of others, which reach a page or a terminal: they are shown, and do nothing."""

import ast
import html.parser
import io
import re
import sys

import numpy as np
import pytest

from danet_jax.base.errors import UserError
from danet_jax.base.texts import one_line, show, visible
from danet_jax.commands import command_line
from danet_jax.console.terminal import say
from danet_jax.evaluation.metrics import score
from danet_jax.evaluation.scoring import Evaluation
from danet_jax.visualization import pages
from danet_jax.visualization.dataset_report import (
    DatasetReport,
    Sample,
    SplitContent,
    render_dataset_report,
)
from danet_jax.visualization.report import Column, Example, Report, render_report
from tests.launcher import ROOT
from tests.test_layout import files

SCRIPT = """<script>x</script>"'><img src=x onerror=x>&lt;\x1b[31m\x00\ud800\u202e"""
STEERING = "\x1b]0;title\x07\x1b[31mred\x9b1m\r\x08\u202eturned\ud800"
IMAGE, LABEL = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)


class Elements(html.parser.HTMLParser):
    """Counts elements, and collects the names of their attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.texts.append(data)


def assert_harmless(page):
    found = Elements(page)
    assert "script" not in found.tags
    assert not {name for name in found.attributes if name.startswith("on")}
    # What has no place in a page, whether it stands in a text or in an attribute.
    assert visible(page) == page
    page.encode()
    return "".join(found.texts)


def test_a_data_sets_page_shows_texts_as_texts():
    content = SplitContent(
        examples=2,
        class_pixels=np.array([3, 1]),
        images_with_class=np.array([1, 1]),
        ignored_pixels=1,
        sizes={SCRIPT: 2},
    )
    report = DatasetReport(
        title=SCRIPT,
        subtitle=SCRIPT,
        names=(SCRIPT, SCRIPT + "2"),
        colors=((1, 2, 3), (4, 5, 6)),
        splits={SCRIPT: content},
        warnings=[SCRIPT, ""],
        samples=[Sample(id=SCRIPT, image=IMAGE, label=LABEL)],
        facts={SCRIPT: SCRIPT},
        unit=SCRIPT,
    )
    text = assert_harmless(render_dataset_report(report))
    assert text.count("<script>x</script>") >= 12


def test_an_evaluations_page_shows_texts_as_texts():
    column = Column(
        title=SCRIPT, mean_iou=0.5, seconds_per_image=0.1, device=SCRIPT, iou=[0.5, 0.5]
    )
    report = Report(
        title=SCRIPT,
        subtitle=SCRIPT,
        metrics={SCRIPT: 0.5},
        per_class=[
            {"name": SCRIPT, "color": (1, 2, 3), "iou": 0.5, "pixels": 3},
            {"name": SCRIPT, "color": (1, 2, 3), "iou": 0.5, "pixels": 3},
        ],
        confusion=np.array([[2, 1], [1, 2]]),
        comparison=[column, column],
        examples=[
            Example(title=SCRIPT, id=SCRIPT, score=0.5, image=IMAGE, truth=LABEL, prediction=LABEL)
        ],
        score_name=SCRIPT,
        config={SCRIPT: {SCRIPT: SCRIPT, "list": [SCRIPT]}},
        versions={SCRIPT: SCRIPT},
        settings={SCRIPT: SCRIPT},
    )
    text = assert_harmless(render_report(report))
    assert text.count("<script>x</script>") >= 16


def test_elements_escape_what_is_not_html():
    assert pages.tag("b", "<", pages.tag("i", "&"), title='"') == (
        '<b title="&#34;">&lt;<i>&amp;</i></b>'
    )


def test_pages_are_made_of_elements_alone():
    for name in ("pages", "report", "dataset_report", "evaluation_report"):
        file = ROOT / "danet_jax" / "visualization" / f"{name}.py"
        texts = {
            node.value
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not {text for text in texts if re.search("</?[a-z]", text)}, file


def test_one_function_prints():
    printing = {
        str(file.relative_to(ROOT))
        for file in files("danet_jax", "input_pipeline", "configs")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and (
            getattr(node.func, "id", "") == "print" or getattr(node.func, "attr", "") == "print_exc"
        )
    }
    assert printing == {"danet_jax/base/texts.py"}


def steers(text):
    return any(not character.isprintable() and character != "\n" for character in text)


def test_nothing_steers_the_terminal(capfd):
    assert steers(STEERING)
    show(STEERING)
    show(STEERING, file=sys.stderr)
    say(STEERING)
    confusion = np.array([[2, 1], [1, 2]])
    Evaluation(confusion, score(confusion), {0: 0.5}, 0.1).show([STEERING, "[bold]b"])
    said = capfd.readouterr()
    assert not steers(said.out + said.err)
    assert said.out.count(r"\x1b]0;title\x07\x1b[31mred\x9b1m\r") == 0
    assert r"\x1b]0;title\x07\x1b[31mred\x9b1m" in said.out
    assert "[bold]b" in said.err


def test_what_an_encoding_cannot_hold_is_shown():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    show("Straße – 1", file=file)
    assert raw.getvalue() == b"Stra\\xdfe \\u2013 1\n"


def test_a_name_stays_on_its_line():
    assert one_line("a\nb\tc" + "x" * 300) == r"a\nb\tc" + "x" * 193 + "…"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--workdir=w", f"--no-such-option={STEERING}"],
        ["eval", f"--workdir={STEERING}"],
        ["train", "--workdir=w", f"--config={STEERING}.py"],
        ["export", "--workdir=w", "--output=o", f"--format={STEERING}"],
        [STEERING],
    ],
)
@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_arguments_are_repeated_without_steering(arguments, debug, monkeypatch, capfd):
    monkeypatch.setattr("danet_jax.runtime.start.set_up_cache", lambda: None)
    monkeypatch.setattr("sys.unraisablehook", None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    try:
        status = command_line.run([*arguments, *debug])
    except SystemExit as error:
        status = error.code
    assert status == 2
    said = capfd.readouterr()
    assert "red" in said.err
    assert not steers(said.out + said.err)


def test_errors_keep_their_own_lines(capfd):
    error = UserError("first\n  second")
    show(f"error: {error}", file=sys.stderr)
    assert capfd.readouterr().err == "error: first\n  second\n"
