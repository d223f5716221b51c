import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageOps

from input_pipeline import transforms
from input_pipeline.errors import DataError
from input_pipeline.transforms import Augmentation, AugmentationConfig

PLAIN = AugmentationConfig(
    crop_size=(48, 64),
    base_size=60,
    scale_range=(0.75, 2.0),
    horizontal_flip=True,
    vertical_flip=False,
    rotate_90=False,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
)


def example(height, width, seed=0):
    rng = np.random.default_rng(seed)
    # Noise: the hardest case for a resampling that should not differ.
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    label = rng.integers(0, 19, (height, width), dtype=np.uint8)
    return image, label


def original(image, label, drawn):
    """The transformation of DANet v0.5.0 (encoding/datasets/base.py), crop last, by Pillow."""
    image, mask = Image.fromarray(image), Image.fromarray(label)
    if drawn.flip_horizontally:
        image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
    if drawn.flip_vertically:
        image, mask = ImageOps.flip(image), ImageOps.flip(mask)
    image, mask = (part.rotate(90 * drawn.turns, expand=True) for part in (image, mask))
    oh, ow = drawn.resized_size
    # Columns before rows, as Pillow did in the original's days; now it takes the cheaper first.
    for size in ((ow, image.height), (ow, oh)):
        image = image.resize(size, Image.Resampling.BILINEAR)
    mask = mask.resize((ow, oh), Image.Resampling.NEAREST)
    crop_h, crop_w = drawn.crop_size
    border = (0, 0, max(crop_w - ow, 0), max(crop_h - oh, 0))
    image, mask = ImageOps.expand(image, border, 0), ImageOps.expand(mask, border, 255)
    y, x = drawn.crop_origin
    box = (x, y, x + crop_w, y + crop_h)
    return np.asarray(image.crop(box)), np.asarray(mask.crop(box))


@pytest.mark.parametrize("scale_range", [(0.75, 2.0), (0.2, 0.6), (1.0, 1.0), (2.5, 7.0)])
@pytest.mark.parametrize("size", [(60, 80), (97, 61), (33, 150), (128, 128)])
def test_crop_before_resize_equals_the_original(size, scale_range):
    config = dataclasses.replace(PLAIN, scale_range=scale_range, vertical_flip=True, rotate_90=True)
    rng = np.random.default_rng(1)
    counts = np.zeros(256, int)
    for seed in range(25):
        image, label = example(*size, seed)
        drawn = transforms.draw_augmentation(rng, size, config)
        got_image, got_label = transforms.apply_augmentation(image, label, drawn)
        want_image, want_label = original(image, label, drawn)
        np.testing.assert_array_equal(got_label, want_label)
        counts += np.bincount(np.abs(got_image.astype(int) - want_image).ravel(), minlength=256)
    shares = counts / counts.sum()
    # Ties of one pass make 1, the rare ties of both 2; simple ratios and noise have most of them.
    assert shares[1] < 0.05
    assert shares[2] < 1e-4
    assert not shares[3:].any()


def test_crop_before_resize_at_the_size_of_cityscapes():
    image, label = example(1024, 2048)
    for short, origin in [
        (768, (0, 768)),
        (1357, (589, 1946)),
        (2048, (1280, 3328)),
        (801, (33, 17)),
    ]:
        drawn = Augmentation(True, False, 0, (short, 2 * short), origin, (768, 768))
        got_image, got_label = transforms.apply_augmentation(image, label, drawn)
        want_image, want_label = original(image, label, drawn)
        np.testing.assert_array_equal(got_label, want_label)
        difference = np.abs(got_image.astype(int) - want_image)
        assert difference.max() <= 1
        assert np.count_nonzero(difference) < 5e-3 * difference.size


def test_nearest_indices_are_those_of_pillow():
    for source in (1, 2, 3, 7, 97, 360, 1024, 2048):
        row = Image.fromarray(np.arange(source, dtype=np.int32)[None])
        for target in [*range(1, 130), 270, 359, 361, 720, 1357, 3000]:
            want = np.asarray(row.resize((target, 1), Image.Resampling.NEAREST))[0]
            np.testing.assert_array_equal(transforms.nearest_indices(source, target), want)


def test_sizes_and_windows_are_those_of_the_original():
    rng = np.random.default_rng(0)
    shorts, xs, ys, flips = set(), set(), set(), 0
    for _ in range(4000):
        drawn = transforms.draw_augmentation(rng, (90, 120), PLAIN)
        short, long = drawn.resized_size
        assert long == int(1.0 * 120 * short / 90)
        shorts.add(short)
        flips += drawn.flip_horizontally
        assert not drawn.flip_vertically
        assert drawn.turns == 0
        if drawn.resized_size == (46, 61):  # narrower than the crop: padded, cut at 0
            assert drawn.crop_origin == (0, 0)
        if short == 50:
            xs.add(drawn.crop_origin[1])
            ys.add(drawn.crop_origin[0])
    assert shorts == set(range(45, 121))
    assert xs == {0, 1, 2}  # 66 - 64, both ends included
    assert ys == {0, 1, 2}
    assert 1900 < flips < 2100


def test_portrait_images_keep_their_short_side_horizontal():
    drawn = transforms.draw_augmentation(
        np.random.default_rng(0), (100, 30), dataclasses.replace(PLAIN, scale_range=(1.0, 1.0))
    )
    assert drawn.resized_size == (200, 60)


def test_turned_images_are_sized_after_the_turn():
    config = dataclasses.replace(PLAIN, rotate_90=True, scale_range=(1.0, 1.0))
    rng = np.random.default_rng(0)
    turned = [transforms.draw_augmentation(rng, (30, 100), config) for _ in range(400)]
    sizes = {drawn.turns: drawn.resized_size for drawn in turned}
    assert sizes == {0: (60, 200), 1: (200, 60), 2: (60, 200), 3: (200, 60)}
    counts = np.bincount([drawn.turns for drawn in turned])
    assert counts.min() > 70


def test_switching_one_option_on_leaves_the_other_draws():
    everything = dataclasses.replace(
        PLAIN, vertical_flip=True, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1
    )
    for seed in range(20):
        plain = transforms.draw_augmentation(np.random.default_rng(seed), (90, 120), PLAIN)
        drawn = transforms.draw_augmentation(np.random.default_rng(seed), (90, 120), everything)
        for field in ("flip_horizontally", "turns", "resized_size", "crop_origin"):
            assert getattr(plain, field) == getattr(drawn, field)
        assert (plain.brightness, plain.contrast, plain.saturation, plain.hue) == (1, 1, 1, 0)
        assert 0.5 <= drawn.brightness <= 1.5
        assert -0.1 <= drawn.hue <= 0.1


def test_padding_is_black_and_ignored_whatever_the_colours():
    image, label = example(20, 30)
    drawn = Augmentation(False, False, 0, (20, 30), (0, 0), (32, 40), 1.4, 0.5, 1.5, 0.2)
    padded_image, padded_label = transforms.apply_augmentation(image, label, drawn)
    assert not padded_image[20:].any()
    assert not padded_image[:, 30:].any()
    assert (padded_label[20:] == 255).all()
    assert (padded_label[:, 30:] == 255).all()
    np.testing.assert_array_equal(padded_label[:20, :30], label)
    np.testing.assert_array_equal(padded_image[:20, :30], transforms.jitter_colors(image, drawn))


def jitter(color, **factors):
    drawn = Augmentation(False, False, 0, (1, 1), (0, 0), (1, 1), **factors)
    image = np.array(color, np.uint8).reshape(1, -1, 3)
    return transforms.jitter_colors(image, drawn).reshape(-1, 3).tolist()


def test_colour_factors_by_hand():
    assert jitter([[100, 50, 200]], brightness=1.5) == [[150, 75, 255]]
    # Mean grey of black and (200, 200, 200) is 100.
    assert jitter([[0, 0, 0], [200, 200, 200]], contrast=0.5) == [[50, 50, 50], [150, 150, 150]]
    assert jitter([[0, 0, 0], [200, 200, 200]], contrast=1.5) == [[0, 0, 0], [250, 250, 250]]
    # Grey of pure red is 0.299 * 255 = 76.
    assert jitter([[255, 0, 0]], saturation=0.0) == [[76, 76, 76]]
    assert jitter([[255, 0, 0]], saturation=0.5) == [[166, 38, 38]]
    assert jitter([[90, 90, 90]], hue=0.3) == [[90, 90, 90]]


@pytest.mark.parametrize(("hue", "color"), [(1 / 3, (0, 255, 0)), (-1 / 3, (0, 0, 255))])
def test_a_third_of_the_hue_circle_turns_red_to_green_and_blue(hue, color):
    np.testing.assert_allclose(jitter([[255, 0, 0]], hue=hue)[0], color, atol=6)


def test_inputs_are_not_changed():
    image, label = example(40, 50)
    before = image.copy(), label.copy()
    drawn = Augmentation(True, True, 1, (50, 40), (0, 0), (48, 48), 1.2, 1.2, 1.2, 0.2)
    transforms.apply_augmentation(image, label, drawn)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_size", (0, 64)),
        ("crop_size", (64,)),
        ("scale_range", (2.0, 0.75)),
        ("scale_range", (0.0, 1.0)),
        ("base_size", 0),
        ("brightness", 1.5),
        ("contrast", -0.1),
        ("hue", 0.6),
    ],
)
def test_values_that_make_no_augmentation_are_named(field, value):
    with pytest.raises(DataError, match=f"data.{field}"):
        dataclasses.replace(PLAIN, **{field: value})
