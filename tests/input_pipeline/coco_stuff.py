"""Miniatures of COCO-Stuff's true layouts."""

import numpy as np
import pytest
import scipy.io
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError

# https://github.com/nightrome/cocostuff, README: COCO's things that nobody segmented, of 1 to 182.
NEVER_USED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
IDS = tuple(id for id in range(1, 183) if id not in NEVER_USED)
NAMES_10K = {
    "train": tuple(f"COCO_train2014_{id:012d}" for id in (77, 110, 113)),
    "test": tuple(f"COCO_train2014_{id:012d}" for id in (260, 349)),
}
NAMES_164K = {
    "train2017": tuple(f"{id:012d}" for id in (9, 25, 30)),
    "val2017": tuple(f"{id:012d}" for id in (139, 285)),
}
GREY = (NAMES_10K["train"][2], NAMES_164K["train2017"][2])
INTERPOLATED = (
    "seems to have been resized with interpolation: along edges are values that lie between "
    "those of both sides and mean nothing. Start again from the originals, and resize labels "
    "with NEAREST only."
)
REPEAT = "Correct or fetch these files again, then repeat the prepare command."


def blocks(rng, values, *, channels=()):
    """Areas of 8x8 pixels, 96x120 in all."""
    small = rng.choice(np.asarray(values, np.uint8), (12, 15, *channels))
    return small.repeat(8, 0).repeat(8, 1)


def label_of(rng, ids, *, every):
    """Areas of the first id and ten others, and `every` one of the ids in the lowest rows."""
    label = blocks(rng, [ids[0], *rng.choice(ids[1:], 10, replace=False)])
    if every:
        label[-2:] = np.resize(np.asarray(ids, np.uint8), (2, label.shape[1]))
    return label


def save_image(rng, file, *, grey):
    image = Image.fromarray(blocks(rng, range(256), channels=(3,)))
    image.convert("L" if grey else "RGB").save(file, quality=95)


def save_mat(file, label, *, names):
    """A file of the distribution; `names` is how many it has, 182 or, in version 1.0, 172."""
    variables = {
        "S": label,
        "names": np.array([f"name {index}" for index in range(names)], object),
        "captions": np.array(["A cat sits on a mat.", "Mat and cat."], object),
        "regionMapStuff": np.arange(label.size, dtype=np.uint16).reshape(label.shape) % 900 + 1,
        "regionLabelsStuff": np.arange(900, dtype=np.uint8)[:, None] % 92,
    }
    if not names:
        del variables["names"]
    scipy.io.savemat(file, variables, do_compression=True, oned_as="column")


def write_coco_stuff_10k(folder):
    """Every id is in every label but the first."""
    for name in ("images", "annotations", "imageLists"):
        (folder / name).mkdir(parents=True)
    for split, names in NAMES_10K.items():
        (folder / "imageLists" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for seed, name in enumerate(names):
            rng = np.random.default_rng([seed, len(split)])
            save_image(rng, folder / "images" / f"{name}.jpg", grey=name in GREY)
            label = label_of(rng, (0, *IDS), every=seed > 0)
            save_mat(folder / "annotations" / f"{name}.mat", label, names=182)
    (folder / "imageLists" / "all.txt").write_text("\n".join(sum(NAMES_10K.values(), ())))
    return folder


def write_coco_stuff_164k(folder):
    """As the authors unpack the archives; every id is in every label but the first."""
    for split, names in NAMES_164K.items():
        images, labels = folder / "images" / split, folder / "annotations" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for seed, name in enumerate(names):
            rng = np.random.default_rng([seed, len(split)])
            save_image(rng, images / f"{name}.jpg", grey=name in GREY)
            label = label_of(rng, (255, *(id - 1 for id in IDS)), every=seed > 0)
            Image.fromarray(label).save(labels / f"{name}.png")
    return folder


def prepare(name, source, folder):
    return input_pipeline.prepare(name, data_dir=folder / "data", source=source)


def refusal(name, source, folder):
    with pytest.raises(DataError) as caught:
        prepare(name, source, folder)
    assert not list((folder / "data").glob("*/[!.]*"))
    return str(caught.value).splitlines()


def resized(label):
    """Enlarged with interpolation, as where images and labels go through the same function."""
    small = Image.fromarray(label).resize((90, 72), Image.Resampling.NEAREST)
    return np.asarray(small.resize(label.shape[::-1], Image.Resampling.BILINEAR))


def filled(label, value):
    label[:8] = value
    return label
