"""Folders for the servers: what is written, and what the check finds."""

import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from danet_jax.base.errors import UserError
from danet_jax.evaluation.submission import (
    FORMATS,
    Submission,
    check,
    check_names,
    format_of,
)
from tests.runs import digests

IDS, COLORS = (7, 8, 11), ((128, 64, 128), (244, 35, 232), (70, 70, 70))
NAMES = ("berlin_000000_000019", "bonn_000001_000019")
CITYSCAPES = dict.fromkeys(NAMES)


def labels(*size, seed=0):
    return np.random.default_rng(seed).integers(0, 3, size, dtype=np.uint8)


def filled(folder, form, sizes):
    written = Submission(folder, form, ids=IDS, colors=COLORS)
    for seed, (name, size) in enumerate(sizes.items()):
        written.write(name, labels(*(form.size or size), seed=seed))
    return written


def test_cityscapes(tmp_path):
    folder = tmp_path / "submission"
    archive = filled(folder, FORMATS["cityscapes"], CITYSCAPES).finish(CITYSCAPES)
    assert archive == folder / "cityscapes.zip"
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == [f"{name}_labelIds.png" for name in NAMES]
        with packed.open(packed.namelist()[1]) as file:
            image = Image.open(file)
            assert image.mode == "L"
            ids = np.asarray(image)
    np.testing.assert_array_equal(ids, np.array(IDS)[labels(1024, 2048, seed=1)])


def test_pascal_voc(tmp_path):
    sizes = {"2008_000006": (5, 7)}
    archive = filled(tmp_path / "s", FORMATS["pascal_voc"], sizes).finish(sizes)
    with tarfile.open(archive) as packed:
        (path,) = packed.getnames()
        assert path == "results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png"
        image = Image.open(packed.extractfile(path))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), np.array(IDS)[labels(5, 7)])
    colors = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(colors, np.array(COLORS)[labels(5, 7)])


def test_ade20k(tmp_path):
    sizes = {"ADE_test_00000001": (4, 6)}
    archive = filled(tmp_path / "s", FORMATS["ade20k"], sizes).finish(sizes)
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == ["ADE_test_00000001.png"]


def spoil_missing(folder):
    (folder / f"{NAMES[0]}_labelIds.png").unlink()


def spoil_name(folder):
    (folder / f"{NAMES[0]}_labelIds.png").rename(folder / "berlin.png")


def spoil_size(folder):
    Image.fromarray(np.full((512, 1024), 7, np.uint8)).save(folder / f"{NAMES[0]}_labelIds.png")


def spoil_mode(folder):
    Image.new("RGB", (2048, 1024)).save(folder / f"{NAMES[0]}_labelIds.png")


def spoil_ids(folder):
    # Train ids.
    Image.fromarray(labels(1024, 2048)).save(folder / f"{NAMES[0]}_labelIds.png")


def spoil_file(folder):
    file = folder / f"{NAMES[0]}_labelIds.png"
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_missing, "berlin_000000_000019_labelIds.png: missing"),
        (spoil_name, "berlin.png: no image of this name"),
        (spoil_size, "1024x512 in place of 2048x1024"),
        (spoil_mode, "mode RGB in place of L"),
        (spoil_ids, "ids 0, 1, 2, which stand for no class (train ids"),
        (spoil_file, "does not decode"),
    ],
)
def test_the_check_finds(spoil, says, tmp_path):
    folder = tmp_path / "s"
    filled(folder, FORMATS["cityscapes"], CITYSCAPES)
    check(folder, FORMATS["cityscapes"], ids=IDS, sizes=CITYSCAPES)
    spoil(folder)
    with pytest.raises(UserError, match="no submission of 2 images") as caught:
        check(folder, FORMATS["cityscapes"], ids=IDS, sizes=CITYSCAPES)
    assert says in str(caught.value)


def test_many_problems_are_counted(tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(UserError) as caught:
        check(
            tmp_path / "s",
            FORMATS["ade20k"],
            ids=IDS,
            sizes={f"ADE_test_{i}": (2, 2) for i in range(9)},
        )
    assert "9 problems" in str(caught.value)
    assert "and 4 more" in str(caught.value)


def test_two_submissions_do_not_mix_in_one_folder(tmp_path):
    one, other = (Submission(tmp_path, FORMATS["ade20k"], ids=IDS, colors=COLORS) for _ in range(2))
    one.write("ADE_test_1", np.zeros((4, 4), np.uint8))
    before = digests(tmp_path)
    with pytest.raises(UserError, match=r"written meanwhile.*a --submission folder of its own"):
        other.write("ADE_test_1", np.ones((4, 4), np.uint8))
    assert digests(tmp_path) == before


def test_an_archive_that_came_meanwhile_is_left_alone(tmp_path):
    form = FORMATS["ade20k"]
    written = Submission(tmp_path, form, ids=IDS, colors=COLORS)
    written.write("a", np.zeros((4, 4), np.uint8))
    (tmp_path / form.archive).write_bytes(b"my own")
    with pytest.raises(UserError, match="was written meanwhile, and not by this command"):
        written.finish({"a": (4, 4)})
    assert (tmp_path / form.archive).read_bytes() == b"my own"


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "old.png").write_bytes(b"")
    with pytest.raises(UserError, match="name a new or an empty folder"):
        Submission(tmp_path, FORMATS["ade20k"], ids=IDS, colors=COLORS)


def test_a_data_set_without_a_server_is_refused():
    with pytest.raises(UserError, match="no submission format for camvid; known are cityscapes"):
        format_of("camvid")


HOSTILE = (
    "../outside",
    "a/../../outside",
    "/outside",
    "a//b",
    "./a",
    "",
    "nul\0byte",
    "\x1b[31mred",
    "a\\..\\b",
    "C:outside",
    "CON",
    "city/com1.frame",
    "dot.",
    "x" * 300,
    "two\nlines",
    "\u202egnp.a",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_an_examples_name_never_leads_out_of_the_folder(name, tmp_path):
    folder = tmp_path / "deep" / "s"
    for form in FORMATS.values():
        with pytest.raises(UserError, match="is no name of a file in") as caught:
            check_names(folder, form, ["good", name])
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
        written = Submission(folder, form, ids=IDS, colors=COLORS)
        with pytest.raises(UserError, match="is no name of a file in"):
            written.write(name, labels(2, 2))
        with pytest.raises(UserError, match="is no name of a file in"):
            check(tmp_path, form, ids=IDS, sizes={name: (2, 2)})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("names", [("a", "a"), ("frame", "Frame")])
def test_two_examples_that_would_be_one_file(names, tmp_path):
    with pytest.raises(UserError, match="would become one file"):
        check_names(tmp_path, FORMATS["ade20k"], names)


def test_names_of_the_benchmarks_are_good(tmp_path):
    names = ["berlin/berlin_000000_000019", "ADE_test_00000001", "2008_000001", "Straße 7 (1)"]
    check_names(tmp_path, FORMATS["ade20k"], names)
