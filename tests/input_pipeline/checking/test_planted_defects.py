"""Every usual mistake, planted in a miniature of every data set's layout, and what is said."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.labels import standard_color
from tests.input_pipeline import (
    ade20k,
    cityscapes,
    coco_stuff,
    conftest,
    folder,
    pascal_context,
    pascal_voc,
)

# --- the miniatures ------------------------------------------------------------------------------


def read_png(file):
    return np.array(Image.open(file))


def save_png(file, pixels):
    Image.fromarray(pixels).save(file)


@dataclasses.dataclass(frozen=True)
class Miniature:
    """How a source is written, and how its labels, [h, w] or [h, w, 3], are read and saved."""

    write: Callable[[Path], Path]
    # Of train, then of val.
    labels: list[str]
    # Parts of a label's path, and what stands there in its image's.
    to_image: dict[str, str]
    # Raw id of each class.
    ids: tuple[int, ...]
    read: Callable[[Path], np.ndarray] = read_png
    save: Callable[[Path, np.ndarray], None] = save_png

    def image_of(self, source, label):
        path = str(label.relative_to(source))
        for part, other in self.to_image.items():
            path = path.replace(part, other)
        return source / path


def matlab(name):
    """How a variable of .mat files is read and saved beside the others."""

    def read(file):
        return scipy.io.loadmat(file)[name]

    def save(file, pixels):
        content = {k: v for k, v in scipy.io.loadmat(file).items() if not k.startswith("__")}
        scipy.io.savemat(file, content | {name: pixels}, do_compression=True)

    return {"read": read, "save": save}


def with_areas(write, labels, ids):
    """Writes labels in areas of 8x8 pixels in place of noise."""

    def write_areas(source):
        write(source)
        for seed, name in enumerate(labels):
            height, width = read_png(source / name).shape
            shuffled = np.random.default_rng(seed).permutation(ids)
            small = np.resize(shuffled, (height // 8, width // 8))
            save_png(source / name, small.repeat(8, 0).repeat(8, 1).astype(np.uint8))
        return source

    return write_areas


def write_camvid(source):
    return conftest.write_camvid(source, {"train": [(48, 64)] * 3, "val": [(56, 64)] * 2})


def write_cityscapes(source):
    return cityscapes.write_cityscapes(source, size=(96, 192))


def write_pascal_context(source):
    pascal_context.write_images(source)
    pascal_context.write_matlab(source / "trainval")
    return source


def paths(pattern, names):
    return [pattern.format(split, name) for split in names for name in names[split]]


OF_CAMVID = [f"trainannot/train_{i:02d}.png" for i in range(3)]
OF_CAMVID += [f"valannot/val_{i:02d}.png" for i in range(2)]
OF_CITYSCAPES = [
    f"gtFine/{split}/{name.split('_')[0]}/{name}_gtFine_labelIds.png"
    for split in ("train", "val")
    for name in cityscapes.NAMES[split]
]
LABELLED_VOC = {split: pascal_voc.NAMES[split] for split in ("train", "val")}
MINIATURES = {
    "ade20k": Miniature(
        ade20k.write_ade20k,
        paths("annotations/{}/{}.png", ade20k.NAMES),
        {"annotations": "images", ".png": ".jpg"},
        tuple(range(1, 151)),
    ),
    "camvid": Miniature(
        with_areas(write_camvid, OF_CAMVID, 12), OF_CAMVID, {"annot": ""}, tuple(range(11))
    ),
    "cityscapes": Miniature(
        with_areas(write_cityscapes, OF_CITYSCAPES, 34),
        OF_CITYSCAPES,
        {"gtFine/": "leftImg8bit/", "gtFine_labelIds": "leftImg8bit"},
        (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33),
    ),
    "coco_stuff_10k": Miniature(
        coco_stuff.write_coco_stuff_10k,
        paths("annotations/{1}.mat", coco_stuff.NAMES_10K),
        {"annotations": "images", ".mat": ".jpg"},
        coco_stuff.IDS,
        **matlab("S"),
    ),
    "coco_stuff_164k": Miniature(
        coco_stuff.write_coco_stuff_164k,
        paths("annotations/{}/{}.png", coco_stuff.NAMES_164K),
        {"annotations": "images", ".png": ".jpg"},
        tuple(id - 1 for id in coco_stuff.IDS),
    ),
    "folder/mine": Miniature(
        folder.write_folder,
        [f"labels/{split}/{name}.png" for split, name, _ in folder.pairs()],
        {"labels": "images"},
        (0, 1, 2),
    ),
    "pascal_context/59_alphabetical": Miniature(
        write_pascal_context,
        paths("trainval/{1}.mat", pascal_context.NAMES),
        {"trainval": "JPEGImages", ".mat": ".jpg"},
        pascal_context.SORTED_IDS[1:],
        **matlab("LabelMap"),
    ),
    "pascal_voc": Miniature(
        pascal_voc.write_voc,
        paths("SegmentationClass/{1}.png", LABELLED_VOC),
        {"SegmentationClass": "JPEGImages", ".png": ".jpg"},
        tuple(range(21)),
    ),
}

# --- the mistakes, in all labels: each makes of raw ids what is saved in their place -------------


def convert(raw, ids):
    """Train ids where raw ids belong; where these are the same, Cityscapes' raw ids."""
    if ids == tuple(range(len(ids))):
        return np.resize(np.arange(34), raw.shape)
    table = np.full(2**16, 255)
    table[list(ids)] = np.arange(len(ids))
    return table[raw]


def shift(raw, ids):
    del ids
    return np.where(raw == 255, 255, raw + 1)


def ignore_otherwise(raw, ids):
    """0 for background where 255 or another id is meant; where 0 is meant, 255."""
    if max(ids) > 255:
        # 255 is a category of its own there: 0 for the background, and 1 to n for the classes.
        return np.where(np.isin(raw, ids), np.searchsorted(ids, raw) + 1, 0)
    if ids[0] > 0:
        return np.where(np.isin(raw, ids), raw, 255)
    moved = np.where(raw == 255, 0, raw + 1)
    moved[:2, :2] = 0
    return moved


def paint(raw, ids):
    table = np.zeros((2**16, 3), np.uint8)
    table[list(ids)] = [standard_color(index + 1) for index in range(len(ids))]
    return table[raw]


def lose_palette(raw, ids):
    return np.asarray(Image.fromarray(paint(raw, ids)).convert("L"))


def interpolate(raw, ids):
    """Made smaller and larger again, as where images and labels go through the same function."""
    del ids
    height, width = raw.shape
    half = Image.fromarray(raw[::2, ::2].astype(np.float32))
    return np.asarray(half.resize((width, height), Image.Resampling.BILINEAR)).round()


IN_ALL_LABELS = {
    "converted": convert,
    "shifted": shift,
    "ignored otherwise": ignore_otherwise,
    "painted": paint,
    "palette lost": lose_palette,
    "interpolated": interpolate,
}


# --- what is said --------------------------------------------------------------------------------

CONVERTED = "were converted to train ids already"
FOREIGN = "to no class, and"
SHIFTED = "occur and never 0: they are shifted by one"
PALETTE_LOST = "hold the brightness of the classes' colours in place of ids"
ONE_MORE = "one more than are known: 0 or "
SAID = {
    "converted": {
        "ade20k": CONVERTED,
        "camvid": FOREIGN,
        "cityscapes": CONVERTED,
        "coco_stuff_10k": CONVERTED,
        "coco_stuff_164k": CONVERTED,
        "folder/mine": FOREIGN,
        "pascal_context/59_alphabetical": "and all others seem to hold train ids (0 to 58) in",
        "pascal_voc": FOREIGN,
    },
    "shifted": dict.fromkeys(MINIATURES, SHIFTED),
    "ignored otherwise": {
        "ade20k": "Id 255 belongs " + FOREIGN,
        "camvid": "Ids 0 to 12 occur, " + ONE_MORE + "12 stands for background or unlabelled "
        "pixels, which are 11 here",
        "cityscapes": "Id 255 belongs " + FOREIGN,
        "coco_stuff_10k": "Id 255 belongs " + FOREIGN,
        "coco_stuff_164k": "All ids but 0 are shifted by one; 0 stands for background or "
        "unlabelled pixels, which are 255 here",
        "folder/mine": "Ids 0 to 3 occur, " + ONE_MORE + "3 stands for background",
        "pascal_context/59_alphabetical": "and all others seem to hold train ids (0 to 58) in",
        "pascal_voc": "Ids 0 to 21 occur, " + ONE_MORE + "21 stands for background",
    },
    "painted": dict.fromkeys(MINIATURES, "are painted in colours, as palette images are that"),
    "palette lost": dict.fromkeys(MINIATURES, PALETTE_LOST),
    "interpolated": dict.fromkeys(MINIATURES, "seem to have been resized with interpolation")
    # Hardly a value lies between three ids in a row.
    | {"folder/mine": FOREIGN},
}


INTERPOLATED_IDS_ARE_KNOWN = ("ade20k", "camvid", "cityscapes", "pascal_context/59_alphabetical")


def said_of(name, source, tmp_path):
    """Whether the source is prepared, and what is said of all of it."""
    try:
        input_pipeline.prepare(name, data_dir=tmp_path / "data", source=source)
    except DataError as error:
        return False, str(error).splitlines()
    return True, input_pipeline.survey_of(name, data_dir=tmp_path / "data").warnings


@pytest.fixture
def source(name, tmp_path):
    return MINIATURES[name].write(tmp_path / "source")


def first_files(name):
    """The first labels' names as messages list them."""
    return ", ".join(MINIATURES[name].labels[:2])


@pytest.mark.parametrize("name", MINIATURES)
@pytest.mark.parametrize("defect", IN_ALL_LABELS)
def test_in_all_labels(defect, name, source, tmp_path):
    miniature = MINIATURES[name]
    for file in miniature.labels:
        raw = miniature.read(source / file)
        changed = IN_ALL_LABELS[defect](raw.astype(np.int64), miniature.ids)
        miniature.save(source / file, changed.astype(raw.dtype))
    prepared, said = said_of(name, source, tmp_path)
    expected = SAID[defect][name]
    (sentence,) = [line for line in said if expected in line]
    assert any(file in sentence for file in miniature.labels)
    # Where all that comes out are known ids again, it is a warning.
    assert prepared == (defect == "interpolated" and name in INTERPOLATED_IDS_ARE_KNOWN)


@pytest.mark.parametrize("name", MINIATURES)
def test_images_and_labels_that_are_swapped(name, source, tmp_path):
    miniature = MINIATURES[name]
    for seed, file in enumerate(miniature.labels):
        raw = miniature.read(source / file)
        noise = np.random.default_rng(seed).integers(0, 256, raw.shape)
        drawing = np.minimum(raw, 255).astype(np.uint8) // 8 * 8
        Image.fromarray(np.stack([drawing] * 3, -1)).save(
            miniature.image_of(source, source / file), format="PNG"
        )
        miniature.save(source / file, noise.astype(raw.dtype))
    prepared, said = said_of(name, source, tmp_path)
    assert not prepared
    (sentence,) = [line for line in said if "images and labels seem to be swapped" in line]
    assert first_files(name) in sentence


@pytest.mark.parametrize("name", MINIATURES)
def test_mixed_sizes_and_duplicates(name, source, tmp_path):
    miniature = MINIATURES[name]
    first, second, *_, last = (source / file for file in miniature.labels)
    cut = miniature.read(first)[:, :-6]
    miniature.save(first, np.ascontiguousarray(cut))
    image = miniature.image_of(source, first)
    Image.open(image).convert("RGB").crop((0, 0, *cut.shape[::-1])).save(image)
    shutil.copy(miniature.image_of(source, second), miniature.image_of(source, last))
    miniature.save(last, miniature.read(second))
    prepared, said = said_of(name, source, tmp_path)
    assert prepared
    assert any(line.startswith("split train: ") and "sizes of images" in line for line in said)
    images = (miniature.image_of(source, file).relative_to(source) for file in (second, last))
    (sentence,) = [line for line in said if line.startswith("in both train and val: 1 pair (")]
    assert " = ".join(map(str, images)) in sentence
