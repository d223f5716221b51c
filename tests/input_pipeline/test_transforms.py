import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageOps

from danet_jax.base.errors import DataError
from danet_jax.configs import cityscapes
from danet_jax.input_pipeline import photometry, transforms
from danet_jax.input_pipeline.photometry import NO_DISTORTION, Distortion
from danet_jax.input_pipeline.transforms import Augmentation, AugmentationConfig

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


def original(image, label, drawn, *, passes=2):
    """The transformation of DANet v0.5.0 (encoding/datasets/base.py), crop last, by Pillow."""
    image, mask = Image.fromarray(image), Image.fromarray(label)
    if drawn.flip_horizontally:
        image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
    if drawn.flip_vertically:
        image, mask = ImageOps.flip(image), ImageOps.flip(mask)
    image, mask = (part.rotate(90 * drawn.turns, expand=True) for part in (image, mask))
    oh, ow = drawn.resized_size
    # Columns before rows, as Pillow did in the original's days; now it takes the cheaper first.
    for size in ((ow, image.height), (ow, oh))[-passes:]:
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


def test_the_originals_recipe_equals_pillow():
    config = AugmentationConfig.of(cityscapes.get_config().data)
    rng = np.random.default_rng(0)
    counts = np.zeros(256, int)
    for seed in range(4):
        image, label = example(1024, 2048, seed)
        drawn = transforms.draw_augmentation(rng, label.shape, config)
        got_image, got_label = transforms.apply_augmentation(image, label, drawn)
        # As one writes it: in one call, whichever direction Pillow takes first.
        want_image, want_label = original(image, label, drawn, passes=1)
        np.testing.assert_array_equal(got_label, want_label)
        counts += np.bincount(np.abs(got_image.astype(int) - want_image).ravel(), minlength=256)
    # Measured on noise: a mean difference of 0.003 grey levels; on photographs 0.002.
    assert counts @ np.arange(256) / counts.sum() < 0.01
    assert not counts[3:].any()


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
        PLAIN,
        vertical_flip=True,
        brightness=0.5,
        contrast=0.5,
        saturation=0.5,
        hue=0.1,
        photometric_distortion=True,
        cat_max_ratio=0.75,
    )
    for seed in range(20):
        plain = transforms.draw_augmentation(np.random.default_rng(seed), (90, 120), PLAIN)
        drawn = transforms.draw_augmentation(np.random.default_rng(seed), (90, 120), everything)
        for field in ("flip_horizontally", "turns", "resized_size", "crop_origin"):
            assert getattr(plain, field) == getattr(drawn, field)
        assert (plain.brightness, plain.contrast, plain.saturation, plain.hue) == (1, 1, 1, 0)
        assert plain.distortion == NO_DISTORTION
        assert 0.5 <= drawn.brightness <= 1.5
        assert -0.1 <= drawn.hue <= 0.1


def test_draws_stay_as_they_were_when_runs_were_recorded():
    config = dataclasses.replace(
        PLAIN, vertical_flip=True, rotate_90=True, brightness=0.5, contrast=0.4, hue=0.1
    )
    drawn = transforms.draw_augmentation(np.random.default_rng(5), (90, 120), config)
    np.testing.assert_allclose(
        (drawn.brightness, drawn.contrast, drawn.hue),
        (0.5539307023816564, 0.9066951046284146, -0.09094496121951097),
        rtol=1e-12,
    )
    plain = dataclasses.replace(drawn, brightness=1.0, contrast=1.0, hue=0.0)
    assert plain == Augmentation(False, False, 1, (112, 84), (18, 13), (48, 64))


def columns(*parts):
    """A label 20 pixels high of (id, width), from left to right."""
    return np.concatenate([np.full((20, width), id, np.uint8) for id, width in parts], axis=1)


def redrawn(label, ratio, *, seeds):
    """Where crops of 10 columns begin that are drawn of a label at its own size."""
    config = dataclasses.replace(
        PLAIN, crop_size=(10, 10), base_size=20, scale_range=(1.0, 1.0), horizontal_flip=False
    )
    places = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        drawn = transforms.draw_augmentation(rng, label.shape, config)
        drawn = transforms.redraw_crop(rng, label, drawn, cat_max_ratio=ratio)
        places.append(drawn.crop_origin[1])
    return np.array(places)


@pytest.mark.parametrize(
    ("ratio", "accepted"),
    # At x class 1 has x - 20 of the crop's 10 columns; a share of just the ratio is too much.
    [(0.75, range(23, 28)), (0.7, range(24, 27)), (0.5, range(0)), (0.95, range(21, 30))],
)
def test_crops_that_one_class_fills_are_drawn_again_ten_times(ratio, accepted):
    places = redrawn(columns((0, 30), (1, 10)), ratio, seeds=400)
    # The eleventh draw is taken as it comes.
    want = 1 - (1 - len(accepted) / 31) ** 11
    assert abs(np.isin(places, accepted).mean() - want) <= 4 * (want * (1 - want) / 400) ** 0.5


def test_ignored_pixels_do_not_count():
    # From x = 22 to 30 the crop shows a column of each class, and eight that are ignored.
    label = columns((255, 30), (0, 1), (1, 1), (255, 8))
    places = redrawn(label, 0.75, seeds=300)
    both = range(22, 31)
    want = 1 - (1 - len(both) / 31) ** 11
    assert abs(np.isin(places, both).mean() - want) < 4 * (want * (1 - want) / 300) ** 0.5


@pytest.mark.parametrize("id", [3, 255])
def test_one_class_or_none_is_drawn_again_ten_times(id):
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    drawn = Augmentation(False, False, 0, (20, 40), (0, 0), (10, 10))
    got = transforms.redraw_crop(rng, columns((id, 40)), drawn, cat_max_ratio=0.99)
    for _ in range(10):
        x, y = (int(other.integers(0, high, endpoint=True)) for high in (30, 10))
    assert got == dataclasses.replace(drawn, crop_origin=(y, x))
    assert rng.random() == other.random()


def test_nothing_is_drawn_again_where_the_option_is_off():
    drawn = Augmentation(True, False, 1, (40, 20), (3, 4), (10, 10))
    rng = np.random.default_rng(0)
    assert transforms.redraw_crop(rng, columns((3, 40)), drawn, cat_max_ratio=1.0) is drawn
    assert rng.random() == np.random.default_rng(0).random()


def test_crops_are_judged_by_what_they_show():
    config = dataclasses.replace(PLAIN, vertical_flip=True, rotate_90=True, crop_size=(30, 50))
    moved = 0
    for seed in range(60):
        image, _ = example(45, 70)
        blocks = np.random.default_rng(seed).choice([0, 0, 0, 1, 2, 255], (3, 5))
        label = np.kron(blocks, np.ones((15, 14))).astype(np.uint8)
        rng = np.random.default_rng(seed)
        drawn = first = transforms.draw_augmentation(rng, label.shape, config)
        state = rng.bit_generator.state
        got = transforms.redraw_crop(rng, label, drawn, cat_max_ratio=0.6)

        rng.bit_generator.state = state
        for _ in range(10):
            _, crop = original(image, label, drawn)
            ids, counts = np.unique(crop[crop != 255], return_counts=True)
            if len(ids) > 1 and counts.max() / counts.sum() < 0.6:
                break
            height, width = (
                max(resized - size, 0)
                for resized, size in zip(drawn.resized_size, (30, 50), strict=True)
            )
            x, y = (int(rng.integers(0, high, endpoint=True)) for high in (width, height))
            drawn = dataclasses.replace(drawn, crop_origin=(y, x))
        assert got == drawn
        moved += got != first
    assert 15 < moved < 60


def test_padding_is_black_and_ignored_whatever_the_colours():
    image, label = example(20, 30)
    factors = {"brightness": 1.4, "contrast": 0.5, "saturation": 1.5, "hue": 0.2}
    drawn = Augmentation(False, False, 0, (20, 30), (0, 0), (32, 40), **factors)
    padded_image, padded_label = transforms.apply_augmentation(image, label, drawn)
    assert not padded_image[20:].any()
    assert not padded_image[:, 30:].any()
    assert (padded_label[20:] == 255).all()
    assert (padded_label[:, 30:] == 255).all()
    np.testing.assert_array_equal(padded_label[:20, :30], label)
    colors = photometry.jitter_colors(image, **factors)
    np.testing.assert_array_equal(padded_image[:20, :30], colors)


def test_distortions_come_after_the_jitter_and_leave_the_padding():
    image, label = example(20, 30)
    distortion = Distortion(20.0, 1.3, 0.8, -7)
    drawn = Augmentation(
        False, False, 0, (20, 30), (0, 0), (32, 40), contrast=0.5, distortion=distortion
    )
    padded, _ = transforms.apply_augmentation(image, label, drawn)
    assert not padded[20:].any()
    assert not padded[:, 30:].any()
    colors = photometry.jitter_colors(image, contrast=0.5)
    np.testing.assert_array_equal(padded[:20, :30], photometry.distort_colors(colors, distortion))


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
        ("cat_max_ratio", 0.0),
        ("cat_max_ratio", 1.1),
    ],
)
def test_values_that_make_no_augmentation_are_named(field, value):
    with pytest.raises(DataError, match=f"data.{field}"):
        dataclasses.replace(PLAIN, **{field: value})
