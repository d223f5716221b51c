"""A miniature of ADE20K's true layout."""

import numpy as np
from PIL import Image

NAMES = {
    "training": ("ADE_train_00000001", "ADE_train_00000002", "ADE_train_00000003"),
    "validation": ("ADE_val_00000001", "ADE_val_00000002"),
}
GREY = "ADE_train_00000003"


def blocks(rng, height, width, values, *, channels=()):
    """Areas of 8x8 pixels."""
    small = rng.choice(np.asarray(values, np.uint8), (height // 8, width // 8, *channels))
    return small.repeat(8, 0).repeat(8, 1)


def write_ade20k(folder):
    """Every id is in every label but the first of a split."""
    for split, names in NAMES.items():
        images, labels = folder / "images" / split, folder / "annotations" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for seed, name in enumerate(names):
            rng = np.random.default_rng([seed, len(split)])
            height, width = 96 + 8 * seed, 120
            image = Image.fromarray(blocks(rng, height, width, range(256), channels=(3,)))
            image.convert("L" if name == GREY else "RGB").save(images / f"{name}.jpg", quality=95)
            label = blocks(rng, height, width, [0, *rng.choice(range(1, 151), 10, replace=False)])
            if seed:
                label[-2:] = np.resize(np.arange(151), (2, width))
            Image.fromarray(label).save(labels / f"{name}.png")
    (folder / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n")
    (folder / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\n")
    return folder
