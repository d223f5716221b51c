"""Prediction on the 8 CPU devices that the tests have."""

import jax
import numpy as np
import pytest

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.base.imagenet import MEAN, STD
from danet_jax.evaluation.predictor import Predictor
from tests.training.tiny import random_variables, tiny_config


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return danet_jax.create_model(tiny_config().model)


@pytest.fixture(scope="module")
def variables(model):
    return random_variables(model, seed=1)


@pytest.fixture(scope="module")
def predictor(model, variables, light_compilation):
    return Predictor(model, variables)


def test_a_batch_that_does_not_divide_gives_each_images_labels(predictor):
    assert jax.device_count() == 8
    images = random_images(11, 17, 40)
    labels = predictor.labels(images)
    assert labels.shape == (11, 17, 40)
    assert labels.dtype == np.uint8
    # More than one class, and not everywhere the same image.
    assert len(np.unique(labels)) > 1
    assert (labels[0] != labels[1]).any()
    for image, expected in zip(images, labels, strict=True):
        np.testing.assert_array_equal(predictor(image), expected)


@pytest.mark.parametrize("size", [(1, 1), (17, 40)])
def test_scores_are_probabilities_of_the_labels(predictor, size):
    image = random_images(*size, seed=1)
    scores = predictor.scores(image)
    assert scores.shape == (*size, 3)
    assert scores.min() >= 0
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(scores.argmax(axis=-1), predictor(image))


def test_scores_are_the_softmax_of_the_upsampled_fused_logits(predictor, model, variables):
    image = random_images(17, 40, seed=1)
    logits = jax.jit(lambda x: model.apply(variables, x, train=False))(image[None])["fused"]
    full = danet_jax.resize_bilinear(logits, (17, 40), align_corners=True)[0]
    exponential = np.exp(np.asarray(full, np.float64))
    expected = exponential / exponential.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(predictor.scores(image), expected, rtol=1e-3, atol=1e-5)


def test_a_float_image_counts_as_normalised(predictor):
    image = random_images(17, 40, seed=1)
    normalised = (image / 255 - np.array(MEAN)[None, None]) / np.array(STD)[None, None]
    np.testing.assert_allclose(
        predictor.scores(normalised.astype(np.float32)),
        predictor.scores(image),
        rtol=1e-3,
        atol=1e-5,
    )


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        Predictor.from_workdir(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_is_not_finite_is_refused(value, model, variables):
    broken = jax.tree.map(jax.device_get, variables)
    kernel = np.array(broken["params"]["backbone"]["stem_conv1"]["kernel"])
    kernel[0, 0, 0, 0] = value
    broken["params"]["backbone"]["stem_conv1"]["kernel"] = kernel
    with pytest.raises(UserError, match=r"stem_conv1.*is not finite, so that it cannot label"):
        Predictor(model, broken)
