"""An evaluation counts the same pixels on any number of devices."""

import functools

import jax
import numpy as np
import pytest

import danet_jax
from danet_jax.evaluation.scoring import evaluate
from danet_jax.runtime import parallel
from tests.training.tiny import random_variables, tiny_config

SETTINGS = {
    "whole": {},
    "windows": {"mode": "slide", "crop_size": 32, "scales": (0.5, 1.0), "flip": True},
    "original": {"mode": "slide", "crop_size": 32, "flip": True, "merge": "original"},
}


def examples():
    """7 images, which divide by neither 2, 3 nor 8; windows and scales neither."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 5, 7, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    labels = rng.integers(0, 4, (7, 5, 7), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    labels[labels == 3] = 255
    return images, labels


@pytest.fixture(scope="module")
def counts(light_compilation):
    """(devices, settings) → confusion matrix."""
    config = tiny_config()
    model = danet_jax.create_model(config.model)
    variables = random_variables(model)
    images, labels = examples()
    batches = [
        {
            "image": images[[index, (index + 1) % 7]],
            "label": labels[[index, (index + 1) % 7]],
            "index": np.array([index, index + 1 if index < 6 else -1]),
        }
        for index in range(0, 7, 2)
    ]

    @functools.cache
    def count(devices, settings):
        mesh = jax.make_mesh(
            (devices, 1),
            parallel.AXES,
            axis_types=(jax.sharding.AxisType.Auto,) * 2,
            devices=jax.devices()[:devices],
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parallel, "local_mesh", lambda: mesh)
            predictor = danet_jax.Predictor(model, variables, **SETTINGS[settings])
            return evaluate(
                predictor, batches, num_classes=model.num_classes, num_images=7
            ).confusion

    return count


@pytest.mark.parametrize("devices", [3, 8])
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_confusion_matrix_is_the_same(settings, devices, counts):
    np.testing.assert_array_equal(counts(devices, settings), counts(1, settings))


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_labelled_pixel_is_counted_once(settings, counts):
    _, labels = examples()
    expected = np.bincount(labels.ravel(), minlength=256)[:3]
    np.testing.assert_array_equal(np.sum(counts(1, settings), axis=1), expected)
