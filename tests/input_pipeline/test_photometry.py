import itertools

import cv2
import numpy as np
import pytest

from danet_jax.input_pipeline import photometry
from danet_jax.input_pipeline.photometry import NO_DISTORTION, Distortion


def jitter(color, **factors):
    image = np.array(color, np.uint8).reshape(1, -1, 3)
    return photometry.jitter_colors(image, **factors).reshape(-1, 3).tolist()


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


def distort(color, **values):
    image = np.array(color, np.uint8).reshape(1, 1, 3)
    return photometry.distort_colors(image, Distortion(**values))[0, 0].tolist()


def test_distortions_by_hand():
    # Values are cut, not rounded: 110.75, 239.75, and 271.75 at the limit.
    assert distort((100, 229, 250), brightness=10.75) == [110, 239, 255]
    assert distort((100, 20, 31), brightness=-31.5) == [68, 0, 0]
    # About 0, not about the mean.
    assert distort((101, 3, 200), contrast=1.5) == [151, 4, 255]
    # Of red with two thirds of the full saturation (170), a half is 85: 255 * (1 - 85 / 255).
    assert distort((255, 85, 85), saturation=0.5) == [255, 170, 170]
    # 60 of 180 steps are a third of the circle; a distortion draws at most 18.
    assert distort((255, 0, 0), hue=60) == [0, 255, 0]
    assert distort((0, 255, 0), hue=-60) == [255, 0, 0]
    assert distort((12, 200, 77)) == [12, 200, 77]


def test_contrast_comes_before_or_after_the_saturation():
    values = {"contrast": 1.5, "saturation": 0.5}
    # Before: (255, 127, 127) has the saturation 128, then 64. After: (200, 143, 143) is scaled.
    assert distort((200, 85, 85), contrast_last=False, **values) == [255, 191, 191]
    assert distort((200, 85, 85), contrast_last=True, **values) == [255, 214, 214]


def transcription(image, distortion):
    """PhotoMetricDistortion of mmsegmentation 1.2.2 with given draws, in plain NumPy."""

    def convert(values, factor=1.0, added=0.0):
        scaled = values.astype(np.float32) * np.float32(factor) + np.float32(added)
        return np.clip(scaled, 0, 255).astype(np.uint8)

    image = convert(image, added=distortion.brightness)
    if not distortion.contrast_last:
        image = convert(image, distortion.contrast)
    if distortion.saturation != 1:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = convert(hsv[..., 1], distortion.saturation)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if distortion.hue:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + distortion.hue) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if distortion.contrast_last:
        image = convert(image, distortion.contrast)
    return image


def test_distortions_equal_the_originals_to_the_last_bit():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    before = image.copy()
    for values in itertools.product(
        (0.0, -32.0, 17.3), (1.0, 0.5, 1.37), (1.0, 0.61, 1.5), (0, -18, 17), (False, True)
    ):
        drawn = Distortion(*values)
        np.testing.assert_array_equal(
            photometry.distort_colors(image, drawn), transcription(image, drawn)
        )
    np.testing.assert_array_equal(image, before)


def test_draws_are_those_of_the_original():
    rng = np.random.default_rng(0)
    draws = [photometry.draw_distortion(rng) for _ in range(4000)]
    columns = {
        name: np.array([getattr(drawn, name) for drawn in draws])
        for name in ("brightness", "contrast", "saturation", "hue")
    }
    limits = {"brightness": (-32, 32), "contrast": (0.5, 1.5), "saturation": (0.5, 1.5)}
    switched_on = {}
    for name, values in columns.items():
        switched_on[name] = values != getattr(NO_DISTORTION, name)
        if name != "hue":
            used = values[switched_on[name]]
            low, high = limits[name]
            assert low <= used.min() < low + 0.01 * (high - low)
            assert high - 0.01 * (high - low) < used.max() <= high
            # 4 standard deviations of the mean of 2000 uniform draws.
            assert abs(used.mean() - (low + high) / 2) < 0.03 * (high - low)
    # +18 is left out; 1 of 36 draws is 0.
    assert set(columns["hue"]) == set(range(-18, 18))
    for name, on in switched_on.items():
        assert abs(on.mean() - (0.5 * 35 / 36 if name == "hue" else 0.5)) < 0.032, name
    for one, other in itertools.combinations(switched_on.values(), 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.064
    assert abs(np.mean([drawn.contrast_last for drawn in draws]) - 0.5) < 0.032


def test_what_is_drawn_next_does_not_depend_on_the_distortion():
    following = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        photometry.draw_distortion(rng)
        other = np.random.default_rng(seed)
        other.random(8)
        other.integers(-18, 18)
        assert rng.random() == other.random()
        following.add(rng.random())
    assert len(following) == 20
