"""A miniature of PASCAL Context, with the labels in both of the forms in which they are given."""

import json

import numpy as np
import scipy.io
from PIL import Image

SIZES = {
    "2008_000002": (24, 36),
    "2008_000003": (30, 36),
    "2009_000010": (24, 36),
    "2008_000007": (24, 30),
    "2010_000005": (24, 36),
}
NAMES = {
    "train": ("2008_000002", "2008_000003", "2009_000010"),
    "val": ("2008_000007", "2010_000005"),
}
# What train ids are made of, https://github.com/zhanghang1989/PyTorch-Encoding, pcontext.py.
SORTED_IDS = (
    0, 2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113,
    115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326,
    347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
OTHER_IDS = (1, 3, 150, 255, 457, 459)


def draw_categories(name):
    """Areas of 30 of the categories, those without a class among them."""
    rng = np.random.default_rng(int(name.replace("_", "")))
    height, width = SIZES[name]
    ids = rng.choice([*SORTED_IDS, *OTHER_IDS], (height // 6, width // 6), replace=False)
    ids[0, :3] = 0, 2, 459
    return ids.repeat(6, 0).repeat(6, 1).astype(np.uint16)


def write_images(folder):
    """JPEGImages and ImageSets/Main of VOC 2010."""
    (folder / "JPEGImages").mkdir(parents=True)
    for name, (height, width) in SIZES.items():
        rng = np.random.default_rng(int(name.replace("_", "")))
        pixels = rng.integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8)
        image = Image.fromarray(pixels.repeat(6, 0).repeat(6, 1))
        image.save(folder / "JPEGImages" / f"{name}.jpg")
    write_lists(folder / "ImageSets" / "Main", NAMES)
    return folder


def write_lists(folder, names):
    folder.mkdir(parents=True)
    for split, listed in names.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed))


def write_matlab(folder):
    """trainval/*.mat of the authors."""
    folder.mkdir(parents=True)
    for name in SIZES:
        content = {"LabelMap": draw_categories(name)}
        scipy.io.savemat(folder / f"{name}.mat", content, do_compression=True)


def encode(mask):
    """A mask's compressed run lengths, number by number and bit by bit."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = [*([0] if flat[0] else []), 0, *changes.tolist(), flat.size]
    runs = np.diff(edges).tolist()
    characters = []
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits = number & 31
            number >>= 5
            more = number != (-1 if bits & 16 else 0)
            characters.append(chr(48 + bits + (32 if more else 0)))
    return "".join(characters)


def annotate(name, category, mask):
    rle = {"size": list(mask.shape), "counts": encode(mask)}
    return {
        "image_id": int(name.replace("_", "")),
        "category_id": int(category),
        "segmentation": rle,
        "area": int(mask.sum()),
        "bbox": [0, 0, 1, 1],
        "iscrowd": 0,
        "parts": [{"part_id": 110, "superpart": "head", "segmentation": rle}],
    }


def make_detail():
    """What trainval_merged.json holds: masks of the 59 classes, and images of test."""
    images, masks = [], []
    for split, names in {**NAMES, "test": ("2008_000001",)}.items():
        for name in names:
            height, width = SIZES.get(name, (24, 36))
            images.append(
                {
                    "file_name": f"{name}.jpg",
                    "image_id": int(name.replace("_", "")),
                    "phase": split,
                    "height": height,
                    "width": width,
                    "date_captured": "31-Dec-2010",
                }
            )
            if split != "test":
                categories = draw_categories(name)
                present = np.intersect1d(categories, SORTED_IDS[1:])
                masks += [annotate(name, id, categories == id) for id in present]
    for id, mask in enumerate(masks):
        mask["id"] = id
    outline = {"size": [24, 36], "counts": "0"}
    return {
        "info": {"description": "PASCAL in Detail"},
        "images": images[::-1],
        "annos_segmentation": masks,
        "annos_boundary": [{"image_id": 2008000002, "boundary_mask": outline}],
        "annos_occlusion": [],
        "categories": [{"category_id": 2, "name": "aeroplane", "onlysemantic": 0}],
        "parts": [{"part_id": 110, "name": "mouth", "superpart": "head"}],
    }


def write_detail(file, content=None):
    file.write_text(json.dumps(make_detail() if content is None else content))
