import numpy as np
import pytest
from PIL import Image

from danet_jax.input_pipeline.storage import preparation

# Split: sizes (height, width) of its images; mixed, so that no batch size divides any group.
SIZES = {
    "train": [(24, 32)] * 7,
    "val": [(24, 32), (20, 30), (24, 32), (24, 32), (20, 30), (16, 16), (24, 32), (24, 32)],
}


def write_camvid(folder, sizes=SIZES):
    """A miniature of the original layout; image k of a split is k everywhere in red."""
    for split, split_sizes in sizes.items():
        (folder / split).mkdir(parents=True)
        (folder / f"{split}annot").mkdir()
        lines = []
        for index, size in enumerate(split_sizes):
            rng = np.random.default_rng(index)
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            image[..., 0] = index
            label = rng.integers(0, 12, size, dtype=np.uint8)
            name = f"{split}_{index:02d}.png"
            Image.fromarray(image).save(folder / split / name)
            Image.fromarray(label).save(folder / f"{split}annot" / name)
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def source(tmp_path):
    return write_camvid(tmp_path / "CamVid")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder in which the miniature is prepared as camvid."""
    folder = tmp_path_factory.mktemp("prepared")
    preparation.prepare("camvid", data_dir=folder / "data", source=write_camvid(folder / "CamVid"))
    return folder / "data"
