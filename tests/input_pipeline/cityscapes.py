"""A miniature of Cityscapes' true layout."""

import numpy as np
from PIL import Image

NAMES = {
    "train": ("aachen_000000_000019", "aachen_000001_000019", "ulm_000002_000019"),
    "val": ("frankfurt_000000_000294", "munster_000000_000019"),
    "test": ("berlin_000000_000019", "bonn_000001_000019"),
}


def write_cityscapes(folder, *, size=(24, 48), test_size=None):
    """Random images and labelIds 0 to 33; the labels of test are those that are published."""
    for split, names in NAMES.items():
        for seed, name in enumerate(names):
            rng = np.random.default_rng([seed, len(split)])
            height, width = (test_size or size) if split == "test" else size
            city = name.split("_")[0]
            images, labels = folder / "leftImg8bit" / split / city, folder / "gtFine" / split / city
            images.mkdir(parents=True, exist_ok=True)
            labels.mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            image = image.repeat(8, 0).repeat(8, 1)
            label = rng.integers(0, 34, (height, width), dtype=np.uint8)
            if split == "test":
                label[:] = 3
            Image.fromarray(image).save(images / f"{name}_leftImg8bit.png")
            Image.fromarray(label).save(labels / f"{name}_gtFine_labelIds.png")
            # Other files of the distribution, which are not for training.
            Image.fromarray(label).save(labels / f"{name}_gtFine_instanceIds.png")
    return folder
