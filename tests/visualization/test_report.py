import base64
import dataclasses
import io
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from danet_jax.base.errors import UserError
from danet_jax.visualization import overlays, pages
from danet_jax.visualization.report import Column, Example, Report, render_report, write_report

LABEL = np.array([[0, 0, 1, 1], [0, 2, 2, 255]], np.uint8)
EXAMPLE = Example(
    title="best",
    id="val/<i>7",
    score=0.8766,
    image=np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    truth=LABEL,
    prediction=np.where(LABEL == 255, 0, LABEL),
)
REPORT = Report(
    title="Run <script>",
    subtitle="CamVid & co, val, step 1,000",
    metrics={"mean_iou": 0.51234, "pixel_accuracy": np.float32(0.75), "mean_accuracy": math.nan},
    per_class=[
        {"name": "<b>", "color": (1, 2, 3), "iou": 0.5, "precision": 0.25, "f1": 1 / 3,
         "pixels": 1234567},
        {"name": 'a"&\'', "color": np.array([4, 5, 6]), "iou": math.nan, "pixels": np.int64(0)},
        {"name": "tree", "color": (7, 8, 9), "iou": 0.999, "precision": 1.0, "f1": 0.0,
         "pixels": 3},
    ],
    confusion=np.array([[6, 0, 2], [0, 0, 0], [1, 0, 3]]),
    history=[{"step": 1, "loss": 2.0}, {"step": 2, "mean_iou": 0.5}],
    examples=[EXAMPLE],
    config={"seed": 1, "model": {"attention": ("position",), "note": "<u>", "rate": None}},
    versions={"jax": "0.10.2<"},
    settings={"mode": "slide<", "seconds_per_image": 0.123456},
)  # fmt: skip


class Page(HTMLParser):
    """Attributes and text of a page; fails on tags that do not match."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data.strip())

    @property
    def images(self):
        return [attrs for tag, attrs in self.tags if tag == "img"]


@pytest.fixture(scope="module")
def html():
    return render_report(REPORT)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def decoded(image):
    kind, data = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.+)", image["src"]).groups()
    return kind, base64.b64decode(data, validate=True)


def test_nothing_is_fetched_and_nothing_runs(html, page):
    assert not re.search(r"https?://|//\w|@import|url\(|javascript:", html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "a"})
    for _, attrs in page.tags:
        assert not any(name.startswith("on") or name in ("href", "srcset") for name in attrs)
        assert attrs.get("src", "data:").startswith("data:")


def test_every_image_decodes(page):
    kinds = []
    for image in page.images:
        kind, data = decoded(image)
        kinds.append(kind)
        if kind == "png":
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
        else:
            assert ElementTree.fromstring(data).tag.endswith("svg")
    # Two curves, bars and the matrix; then image, truth and prediction.
    assert kinds == ["svg+xml"] * 4 + ["png"] * 3


def test_example_images_hold_the_pixels(page):
    pictures = [np.asarray(Image.open(io.BytesIO(decoded(image)[1]))) for image in page.images[-3:]]
    np.testing.assert_array_equal(pictures[0], EXAMPLE.image)
    assert pictures[1][1].tolist() == [
        [1, 2, 3],
        [7, 8, 9],
        [7, 8, 9],
        list(overlays.IGNORE_COLOR),
    ]
    assert pictures[2][1, 3].tolist() == [1, 2, 3]


def test_everything_given_is_escaped(html, page):
    for name in ("<b>", "a\"&'", "tree"):
        assert page.texts.count(name) >= 2  # The table and the legend or the confusions.
    for text in ("Run <script>", "CamVid & co, val, step 1,000", "val/<i>7", "slide<"):
        assert text in page.texts
    assert not re.search(r"<(script|i>|u>)", html)
    assert html.count("<b>") == len(REPORT.metrics) + len(REPORT.examples)


def test_numbers_are_shown(page):
    text = "|".join(page.texts)
    assert "|51.23 %|mean IoU|75.00 %|pixel accuracy|–|mean accuracy|" in text
    assert "|mode|slide<|seconds per image|0.1235|" in text
    assert "|class|IoU|precision|F1|pixels|" in text
    assert "|<b>|50.0|25.0|33.3|1,234,567|" in text
    assert "|a\"&'|–|–|–|0|" in text
    assert "|tree|99.9|100.0|0.0|3|" in text
    assert "|of the truth|pixels|<b>|tree|25.0 %|2|tree|<b>|25.0 %|1|" in text
    assert "|best|val/<i>7|mean IoU 87.7 %|image|truth|prediction|" in text


def test_tables_say_what_their_rows_and_columns_are(page):
    scopes = [attrs["scope"] for tag, attrs in page.tags if tag == "th"]
    # The confusions of two pairs of classes, then the scores of three classes.
    assert scopes == ["col"] * 4 + ["row"] * 4 + ["col"] * 5 + ["row"] * 3


def test_several_evaluations_stand_side_by_side(page):
    assert "Evaluations side by side" not in page.texts
    columns = [
        Column(
            title="scale 1",
            mean_iou=0.5,
            seconds_per_image=None,
            device="cpu",
            iou=[0.25, math.nan, 0.75],
        ),
        Column(
            title="8 scales <",
            mean_iou=0.625,
            seconds_per_image=1.5,
            device="H<",
            iou=[0.5, math.nan, 0.7],
        ),
    ]
    text = "|".join(Page(render_report(dataclasses.replace(REPORT, comparison=columns))).texts)
    assert "Evaluations side by side|IoU, %|scale 1|8 scales <|mean|50.00|62.50|" in text
    assert "|seconds per image|–|1.5|device|cpu|H<|<b>|25.0|50.0|" in text
    assert "|a\"&'|–|–|tree|75.0|70.0|" in text


def test_config_and_versions_are_readable(page):
    text = "|".join(page.texts)
    assert '|seed|: 1|model|:|attention|: ["position"]|note|: <u>|rate|: null|' in text
    assert text.endswith("Versions|jax|: 0.10.2<")


def test_swatches_have_the_class_colours(page):
    styles = [attrs["style"] for tag, attrs in page.tags if tag == "i"]
    assert styles[-4:] == [
        "background:rgb(1,2,3)",
        "background:rgb(4,5,6)",
        "background:rgb(7,8,9)",
        "background:rgb({},{},{})".format(*overlays.IGNORE_COLOR),
    ]


def test_missing_parts_are_said_kindly():
    page = Page(render_report(Report(title="Bare", subtitle="", metrics={}, per_class=[])))
    assert page.images == []
    for note in (
        "No metrics were given.",
        "This report was made without a training history, so there are no curves.",
        "No scores per class were given.",
        "This report has no example images.",
        "Neither config nor versions were given.",
    ):
        assert note in page.texts


def test_a_perfect_confusion_is_said_to_be_one():
    perfect = dataclasses.replace(REPORT, confusion=np.diag([1, 2, 3]), examples=[], history=[])
    assert "No pixel was misclassified." in Page(render_report(perfect)).texts
    empty = dataclasses.replace(perfect, confusion=np.zeros((3, 3), np.int64))
    assert "No confusion matrix was given." in Page(render_report(empty)).texts


def test_large_images_are_reduced_and_their_labels_keep_pure_colours():
    label = np.zeros((200, 1280), np.uint8)
    label[:, 640:] = 2
    image = np.full((200, 1280, 3), 9, np.uint8)
    example = dataclasses.replace(EXAMPLE, image=image, truth=label, prediction=label)
    page = Page(render_report(dataclasses.replace(REPORT, examples=[example], history=[])))
    for attrs in page.images[-3:]:
        with Image.open(io.BytesIO(decoded(attrs)[1])) as picture:
            assert picture.size == (640, 100) == (int(attrs["width"]), int(attrs["height"]))
            colors = {color for _, color in picture.getcolors()}
        assert colors <= {(9, 9, 9), (1, 2, 3), (7, 8, 9)}
    classes = [attrs.get("class", "") for tag, attrs in page.tags if tag == "article"]
    assert classes == ["card example large"]


def test_many_classes_fold_the_table():
    rows = [{"name": f"c{i}", "color": (i, 0, 0), "iou": i / 100} for i in range(41)]
    report = Report(title="Many", subtitle="", metrics={}, per_class=rows)
    page = Page(render_report(report))
    assert "Per class, % (41 rows)" in page.texts
    assert len(page.images) == 2


def test_the_file_is_written_whole(tmp_path, html):
    path = write_report(tmp_path / "runs" / "report.html", REPORT)
    assert path.read_bytes() == pages.encode(html)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("change", ["edited", "foreign", "link"])
def test_what_is_not_a_page_of_ours_is_not_written_over(tmp_path, change):
    path = write_report(tmp_path / "index.html", REPORT)
    assert write_report(path, REPORT) == path
    if change == "edited":
        path.write_text(path.read_text() + "<!-- mine -->")
    elif change == "foreign":
        path.write_text("mine")
    else:
        path.rename(tmp_path / "elsewhere.html")
        path.symlink_to(tmp_path / "elsewhere.html")
    before = path.read_bytes()
    with pytest.raises(UserError, match="move it away first"):
        write_report(path, REPORT)
    assert path.read_bytes() == before
    assert path.is_symlink() == (change == "link")
