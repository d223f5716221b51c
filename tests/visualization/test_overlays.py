import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from danet_jax.base.errors import UserError
from danet_jax.visualization import overlays

COLORS = [(10, 20, 30), (200, 100, 0), (0, 255, 128)]
LABEL = np.array([[0, 1, 2, 255], [0, 1, 2, 255]], np.uint8)


def test_colorize_gives_each_class_its_colour_and_ignored_grey():
    colored = overlays.colorize(LABEL, colors=COLORS)
    assert colored.dtype == np.uint8
    assert colored[0].tolist() == [
        [10, 20, 30],
        [200, 100, 0],
        [0, 255, 128],
        list(overlays.IGNORE_COLOR),
    ]


def test_colors_may_be_an_array_and_labels_wide_integers():
    colored = overlays.colorize(LABEL.astype(np.int64), colors=np.array(COLORS, np.uint8))
    np.testing.assert_array_equal(colored, overlays.colorize(LABEL, colors=COLORS))


@pytest.mark.parametrize("bad", [3, 254, -1, 256, 1000])
def test_an_unknown_id_is_named(bad):
    label = np.array([[0, bad]], np.int32)
    with pytest.raises(UserError, match=rf"outside 0 … 2 and 255 \(ignored\): {bad}$"):
        overlays.colorize(label, colors=COLORS)


def test_more_classes_than_an_8_bit_label_holds_are_refused():
    with pytest.raises(UserError, match="256 classes"):
        overlays.colorize(LABEL, colors=[(0, 0, 0)] * 256)


def test_overlay_blends_away_from_boundaries():
    image = np.full((6, 6, 3), 100, np.uint8)
    label = np.zeros((6, 6), np.uint8)
    label[:, 3:] = 1
    half = overlays.overlay(image, label, colors=COLORS, opacity=0.5)
    assert half[0, 0].tolist() == [55, 60, 65]
    assert half[0, 5].tolist() == [150, 100, 50]
    # 0.3 · (55, 60, 65) + 0.7 · 255, on the last column before the other class only.
    assert half[:, 2].tolist() == [[195, 196, 198]] * 6
    assert half[0, 3].tolist() == [150, 100, 50]
    usual = overlays.overlay(image, label, colors=COLORS)
    assert usual[0, 5].tolist() == [155, 100, 45]


def test_an_overlay_by_blocks_of_rows_is_that_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    # High enough for lines of two pixels, which a block's last rows see below them.
    image = rng.integers(0, 256, (750, 721, 3), dtype=np.uint8)
    label = rng.integers(0, 4, (25, 24), dtype=np.uint8).repeat(30, 0).repeat(31, 1)[:, :721]
    label[label == 3] = 255
    blend = 0.45 * image + 0.55 * overlays.colorize(label, colors=COLORS)
    edge = overlays.class_boundaries(label, width=2)
    blend[edge] = 0.3 * blend[edge] + 0.7 * 255
    for pixels in (1, 7 * 721, 10**6):
        monkeypatch.setattr(overlays, "BLOCK_PIXELS", pixels)
        found = overlays.overlay(image, label, colors=COLORS)
        np.testing.assert_allclose(found, blend, atol=0.501)
        assert overlays.class_shares(label, names=["sky", "car", "tree"])["car"] == (
            (label == 1).sum() / (label != 255).sum()
        )


def test_little_more_memory_is_held_than_the_overlay_takes():
    image, label = np.zeros((1500, 2000, 3), np.uint8), np.zeros((1500, 2000), np.uint8)
    tracemalloc.start()
    overlays.overlay(image, label, colors=COLORS)
    overlays.class_shares(label, names=["sky", "car", "tree"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * image.nbytes


def test_boundaries_are_as_wide_as_asked():
    label = np.repeat(np.array([[0, 0, 0, 1, 1]], np.uint8), 3, axis=0)
    edge = overlays.class_boundaries(label)
    assert edge.tolist() == [[False, False, True, False, False]] * 3
    edge = overlays.class_boundaries(label, width=2)
    assert edge.tolist() == [[False, True, True, False, False]] * 3
    edge = overlays.class_boundaries(label.T.copy())
    assert edge.tolist() == [[False] * 3, [False] * 3, [True] * 3, [False] * 3, [False] * 3]


def test_shares_are_of_the_pixels_that_count():
    shares = overlays.class_shares(
        np.array([[0, 0, 2, 255], [0, 2, 0, 0]], np.uint8), names=["sky", "car", "tree"]
    )
    assert list(shares) == ["sky", "car", "tree"]
    assert shares == {"sky": 5 / 7, "car": 0.0, "tree": 2 / 7}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    ignored = overlays.class_shares(np.full((2, 2), 255, np.uint8), names=["sky", "car"])
    assert ignored == {"sky": 0.0, "car": 0.0}


def test_label_png_reads_back_as_ids_with_our_palette(tmp_path):
    path = tmp_path / "label.png"
    path.write_bytes(overlays.encode_label_png(LABEL, colors=COLORS))
    # Byte 24 of a PNG is its bit depth, 25 its colour type: 3 is palette.
    assert path.read_bytes()[24:26] == bytes([8, 3])
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), LABEL)
        palette = np.array(image.getpalette()).reshape(-1, 3)
    assert palette[:3].tolist() == [list(color) for color in COLORS]
    assert palette[255].tolist() == [0, 0, 0]
    with Image.open(path) as image:
        assert image.convert("RGB").getpixel((1, 0)) == COLORS[1]


def test_image_png_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(overlays.encode_image_png(image))) as back:
        np.testing.assert_array_equal(np.asarray(back), image)
