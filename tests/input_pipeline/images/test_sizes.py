"""Sizes of TIFFs: by the header where that says it, else as the image is read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images import conversion
from tests.input_pipeline.images.test_formats import tiff

LARGE = np.zeros((3000, 2500, 3), np.uint8)
SMALL = np.zeros((4, 5, 3), np.uint8)
IMAGE = np.zeros((40, 50, 3), np.uint8)


def bytes_read():
    """What this process has read from files so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def test_the_header_is_enough(tmp_path):
    path = tmp_path / "large.tif"
    Image.fromarray(LARGE).save(path)
    # Pillow imports its readers at their first use.
    (tmp_path / "small.tif").write_bytes(tiff((SMALL, {})))
    assert input_pipeline.sizes_of_files([tmp_path / "small.tif"]) == [(4, 5)]
    before = bytes_read()
    assert input_pipeline.sizes_of_files([path]) == [(3000, 2500)]
    assert bytes_read() - before < 500_000 < path.stat().st_size


@pytest.mark.parametrize(
    "pages",
    [
        [(IMAGE, {})],
        [(IMAGE, {}), (SMALL, {254: [1]})],
        [(SMALL, {254: [1]}), (IMAGE, {})],
        [(SMALL, {255: [2]}), (IMAGE, {})],
        [(SMALL[..., 0], {254: [4], 262: [4]}), (IMAGE, {})],
        [(SMALL[..., 0], {262: [4]}), (IMAGE, {})],
        [(IMAGE, {274: [6]})],
        [(IMAGE, {254: [2]}), (SMALL, {254: [2]})],
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_size_is_that_of_the_image(tmp_path, pages, order):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(*pages, order=order))
    shape = conversion.read_image(path)[0].shape
    assert max(shape) == 50
    assert input_pipeline.sizes_of_files([path]) == [shape[:2]]


@pytest.mark.parametrize(
    ("pixels", "tags"),
    [
        (IMAGE, {50706: [1, 4]}),
        (IMAGE[..., 0], {262: [32803]}),
        (IMAGE.astype(np.uint16), {284: [2]}),
        (IMAGE, {254: [1], 330: [8]}),
    ],
)
def test_what_is_refused_has_no_size(tmp_path, pixels, tags):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff((pixels, tags)))
    with pytest.raises(DataError):
        conversion.read_image(path)
    assert input_pipeline.sizes_of_files([path]) == []
