"""Folders that a person has no right to read are named, and never make a data set smaller."""

import ctypes
import os

import pytest

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images.files import list_files
from tests.input_pipeline.ade20k import write_ade20k
from tests.input_pipeline.cityscapes import write_cityscapes
from tests.input_pipeline.coco_stuff import write_coco_stuff_10k, write_coco_stuff_164k
from tests.input_pipeline.conftest import write_camvid
from tests.input_pipeline.folder import write_folder
from tests.input_pipeline.pascal_context import write_images, write_matlab
from tests.input_pipeline.pascal_voc import draw_ids, write_label, write_sbd, write_voc

# Of linux/capability.h: what lets root pass over the rights of files and folders.
_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1 << 1, 1 << 2


@pytest.fixture(autouse=True)
def rights():
    """Rights bind this thread, and those that it starts, also where root runs the tests."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] = effective & ~(_DAC_OVERRIDE | _DAC_READ_SEARCH)
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
    yield
    sets[0] = effective
    assert libc.capset(header, sets) == 0


@pytest.fixture
def forbid():
    """Takes all rights from folders, until the test has ended."""
    former = {}

    def take(folder, mode=0):
        former[folder] = folder.stat().st_mode
        folder.chmod(mode)

    yield take
    for folder, mode in former.items():
        folder.chmod(mode)


def write_voc_with_converted_sbd(folder):
    write_voc(folder)
    write_label(
        folder / "SegmentationClassAug" / "2010_000001.png", draw_ids("2010_000001", border=False)
    )


def write_voc_and_sbd(folder):
    write_voc(folder / "VOCdevkit" / "VOC2012")
    write_sbd(folder / "benchmark_RELEASE" / "dataset")


def write_context(folder):
    write_images(folder / "VOC2010")
    write_matlab(folder / "trainval")


@pytest.mark.parametrize(
    ("name", "write", "forbidden", "problems"),
    [
        ("cityscapes", write_cityscapes, "leftImg8bit/train", 1),
        ("cityscapes", write_cityscapes, "leftImg8bit/train/ulm", 1),
        ("cityscapes", write_cityscapes, "leftImg8bit/test", 1),
        ("cityscapes", write_cityscapes, "gtFine/val/munster", 1),
        ("ade20k", write_ade20k, "images/training", 1),
        ("ade20k", write_ade20k, "annotations/validation", 2),
        ("coco_stuff_164k", write_coco_stuff_164k, "images/train2017", 1),
        ("coco_stuff_164k", write_coco_stuff_164k, "annotations/val2017", 1),
        ("coco_stuff_10k", write_coco_stuff_10k, "images", 5),
        ("coco_stuff_10k", write_coco_stuff_10k, "imageLists", 1),
        ("pascal_voc", write_voc_with_converted_sbd, "SegmentationClassAug", 1),
        ("pascal_voc", write_voc, "JPEGImages", 1),
        ("pascal_voc", write_voc, "ImageSets/Segmentation", 1),
        ("pascal_voc", write_voc_and_sbd, "benchmark_RELEASE", 1),
        ("pascal_context/59_voc_first", write_context, "trainval", 1),
        ("pascal_context/59_voc_first", write_context, "VOC2010/ImageSets", 1),
        ("camvid", write_camvid, "trainannot", 7),
        ("folder/mine", write_folder, "images/val", 1),
        ("folder/mine", write_folder, "labels/train", 1),
        ("folder/mine", write_folder, "images", 1),
    ],
)
def test_a_folder_that_may_not_be_read_is_named(tmp_path, forbid, name, write, forbidden, problems):
    source = tmp_path / "source"
    write(source)
    forbid(source / forbidden)
    with pytest.raises(DataError) as caught:
        input_pipeline.prepare(name, data_dir=tmp_path / "data", source=source)
    said = str(caught.value)
    assert f"{problems} problem" in said
    assert said.count("cannot be read: Permission denied") == min(problems, 5)
    assert forbidden in said
    assert "cannot be read: Permission denied; give yourself the right: chmod u+r" in said
    assert "missing" not in said
    assert "choose another config.data.data_dir" not in said
    assert not list((tmp_path / "data").glob("*/[!.]*"))


def test_a_source_that_may_not_be_read_is_named(tmp_path, forbid):
    source = tmp_path / "source"
    write_cityscapes(source)
    forbid(source)
    with pytest.raises(DataError, match=f"{source}.*Permission denied"):
        input_pipeline.prepare("cityscapes", data_dir=tmp_path / "data", source=source)


def test_files_of_a_folder(tmp_path, forbid):
    for name in ("b.png", "a.png", "c.jpg", "d.PNG"):
        (tmp_path / name).touch()
    assert [path.name for path in list_files(tmp_path, ".png")] == ["a.png", "b.png"]
    assert list_files(tmp_path / "none", ".png") == []
    assert list_files(tmp_path / "a.png", ".png") == []
    (tmp_path / "closed").mkdir()
    forbid(tmp_path / "closed", 0o300)
    with pytest.raises(DataError, match=r"closed: cannot be read: Permission denied; .*u\+rx"):
        list_files(tmp_path / "closed", ".png")
