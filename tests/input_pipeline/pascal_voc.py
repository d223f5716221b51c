"""Miniatures of VOC 2012 and SBD in their true layouts."""

import numpy as np
import scipy.io
import scipy.sparse
from PIL import Image

from danet_jax.input_pipeline.labels import standard_color

SIZE = (24, 32)
NAMES = {
    "train": ("2007_000032", "2007_000039", "2007_000063"),
    "val": ("2007_000033", "2007_000042"),
    "test": ("2008_000006", "2008_000011"),
}
# With images that are VOC's train and val, too.
SBD_NAMES = {
    "train": ("2008_000002", "2007_000032", "2007_000033"),
    "val": ("2008_000003", "2007_000042"),
}


def draw_ids(name, *, border):
    """Areas of all 21 ids, in an order that the name decides."""
    rng = np.random.default_rng(int(name.replace("_", "")))
    ids = rng.permutation(24).reshape(4, 6).repeat(6, 0).repeat(6, 1)[: SIZE[0], : SIZE[1]]
    return np.where(ids > 20, 255 if border else 0, ids).astype(np.uint8)


def write_image(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int(file.stem.replace("_", "")))
    pixels = rng.integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), dtype=np.uint8)
    Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(file)


def write_label(file, ids):
    file.parent.mkdir(parents=True, exist_ok=True)
    label = Image.fromarray(ids).copy()
    palette = [standard_color(index) for index in range(256)]
    label.putpalette([value for color in palette for value in color])
    label.save(file)


def write_voc(folder):
    """A miniature of VOC2012, with test."""
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, names in NAMES.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            write_image(folder / "JPEGImages" / f"{name}.jpg")
            if split != "test":
                ids = draw_ids(name, border=True)
                write_label(folder / "SegmentationClass" / f"{name}.png", ids)
    return folder


def write_mat(file, ids):
    """As SBD's: compressed, with the boundaries of each class beside the areas."""
    file.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = scipy.sparse.csc_array((ids == index + 1).astype(float))
    content = {
        "Boundaries": boundaries,
        "Segmentation": ids,
        "CategoriesPresent": np.unique(ids[ids > 0])[:, None],
    }
    scipy.io.savemat(file, {"GTcls": content}, do_compression=True)


def write_sbd(folder):
    """A miniature of benchmark_RELEASE/dataset."""
    for split, names in SBD_NAMES.items():
        for name in names:
            write_image(folder / "img" / f"{name}.jpg")
            write_mat(folder / "cls" / f"{name}.mat", draw_ids(name, border=False))
        (folder / f"{split}.txt").write_text("\n".join(names))
    return folder
