import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from danet_jax.base.errors import UserError
from danet_jax.visualization import pages
from danet_jax.visualization.dataset_report import (
    DatasetReport,
    Sample,
    SplitContent,
    render_dataset_report,
    write_dataset_report,
)
from tests.visualization.test_report import Page, decoded

NAMES = ("sky", "<road>", "tree")
COLORS = ((10, 20, 200), (90, 90, 90), (20, 160, 40))
LABEL = np.array([[0, 0, 1, 1], [0, 1, 1, 255]], np.uint8)
REPORT = DatasetReport(
    title="streets & co",
    subtitle="The data set as it is stored.",
    names=NAMES,
    colors=COLORS,
    splits={
        "train": SplitContent(
            examples=1200,
            class_pixels=np.array([600, 300, 100]),
            images_with_class=np.array([1100, 1000, 7]),
            ignored_pixels=250,
            sizes={"480x360": 1190, "64x48": 10},
        ),
        "test": SplitContent(
            examples=3,
            class_pixels=np.zeros(3, np.int64),
            images_with_class=np.zeros(3, np.int64),
            ignored_pixels=0,
            sizes={f"{width}x10": 1 for width in range(3)},
        ),
    },
    warnings=["class 'tree' occurs <twice>."],
    samples=[Sample(id="val: <7>", image=np.full((2, 4, 3), 100, np.uint8), label=LABEL)],
    facts={"prepared in": "data"},
)


@pytest.fixture(scope="module")
def page():
    return Page(render_dataset_report(REPORT))


def text(page):
    return " ".join(" ".join(page.texts).split())


def test_numbers_of_the_head(page):
    assert "1,200 train images 3 test images 3 classes 20.0 % of the pixels ignored" in text(page)
    assert "prepared in data" in text(page)
    assert "Class 'tree' occurs <twice>." in text(page)


def test_classes_by_frequency(page):
    said = text(page)
    assert re.search(r"sky 60\.0 1,100 <road> 30\.0 1,000 tree 10\.0 7", said)
    # A split without labels has no column.
    assert "train, % of labelled pixels images" in said
    assert "test, %" not in said
    widths = [
        a["style"] for tag, a in page.tags if tag == "i" and "width" in (a.get("style") or "")
    ]
    assert widths[:3] == ["width:60.00%", "width:30.00%", "width:10.00%"]


def test_sizes(page):
    said = text(page)
    assert "train 480 × 360 99.2 1,190 train 64 × 48 0.83 10" in said
    assert "test 0 × 10 33.3 1" in said


def test_samples_are_the_image_and_its_labels_over_it(page):
    image, tinted = (np.asarray(Image.open(io.BytesIO(decoded(i)[1]))) for i in page.images)
    np.testing.assert_array_equal(image, REPORT.samples[0].image)
    # 45 % of the image and 55 % of the colour, where no border is drawn.
    np.testing.assert_array_equal(tinted[0, 0], [50, 56, 155])
    assert "val: <7> sky, <road>" in text(page)
    assert "sky <road> ignored" in text(page)


def test_a_set_without_doubts_or_labels():
    report = DatasetReport(
        title="t", subtitle="s", names=NAMES, colors=COLORS, warnings=[], samples=[],
        splits={"test": REPORT.splits["test"]},
    )  # fmt: skip
    said = text(Page(render_dataset_report(report)))
    assert "No file and no class looks wrong" in said
    assert "There are no labelled examples." in said
    assert "No split has labelled pixels." in said
    assert "ignored" not in said


def test_it_is_one_file(tmp_path):
    path = write_dataset_report(tmp_path / "data" / "page.html", REPORT)
    assert path.read_text().startswith("<!doctype html>")
    assert "http" not in path.read_text().replace("http-equiv", "")


def test_a_page_is_known_again_until_somebody_changes_it(tmp_path):
    path = write_dataset_report(tmp_path / "page.html", REPORT)
    pages.check_place(path)
    written = path.read_bytes()
    position = written.index(b"</main>")
    changes = {
        "a note": written[:position] + b"<p>look at image 7</p>" + written[position:],
        "another end": written + b"\n",
        "torn": written[:-20],
        "without the mark": b"".join(
            line for line in written.splitlines(keepends=True) if b"generator" not in line
        ),
    }
    for what, content in changes.items():
        assert content != written, what
        path.write_bytes(content)
        with pytest.raises(UserError, match="move it away first"):
            pages.check_place(path)
        assert path.read_bytes() == content
    path.write_bytes(changes["a note"])
    with pytest.raises(UserError, match=r"page\.html was changed since this program wrote it"):
        pages.check_place(path)
    # Those of the first release had no checksum.
    former = changes["without the mark"].replace(
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        b"default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    )
    assert former != changes["without the mark"]
    path.write_bytes(former)
    pages.check_place(path)


def test_a_pipe_in_place_of_a_page_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "page.html")
    with pytest.raises(UserError, match="not a page that this program wrote"):
        pages.check_place(tmp_path / "page.html")
