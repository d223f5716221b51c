"""Prediction and evaluation with a small random network."""

import numpy as np
import pytest

import danet_jax
from configs import common
from danet_jax.errors import UserError
from danet_jax.evaluation.evaluate import evaluate
from danet_jax.evaluation.metrics import confusion_matrix, score
from danet_jax.training.state import init_variables

CLASSES = 5


@pytest.fixture(scope="module")
def config():
    config = common.get_config()
    config.model.backbone = "resnet18"
    config.model.width = 4
    config.model.num_classes = CLASSES
    config.model.multi_grid = ()
    return config


@pytest.fixture(scope="module")
def predictor(config):
    model = danet_jax.create_model(config.model)
    return danet_jax.Predictor(model, init_variables(model, 0))


@pytest.fixture(scope="module")
def examples():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (5, 24, 32, 3), np.uint8)
    label = generator.integers(0, CLASSES, (5, 24, 32)).astype(np.uint8)
    # Very unequal numbers of labelled pixels: a mean of the images' scores is another number.
    label[0, 1:] = 255
    return image, label


def batches_of(image, label, size):
    for start in range(0, len(image), size):
        rows = np.arange(start, min(start + size, len(image)))
        index = np.full(size, -1, np.int64)
        index[: len(rows)] = rows
        # What fills up is labelled here, so that counting it would change the result.
        images, labels = np.zeros((size, *image.shape[1:]), np.uint8), np.zeros_like(label[:size])
        labels = np.zeros((size, *label.shape[1:]), np.uint8)
        images[: len(rows)], labels[: len(rows)] = image[rows], label[rows]
        yield {"image": images, "label": labels, "index": index}


def test_labels_are_the_most_probable_classes(predictor, examples):
    image = examples[0][0]
    scores = predictor.scores(image)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(predictor(image), scores.argmax(axis=-1))
    assert len(np.unique(predictor(image))) > 1


def test_a_batch_that_divides_over_no_device_is_labelled_as_its_images(predictor, examples):
    images = examples[0]
    together = predictor.labels(images)
    one_by_one = np.stack([predictor(image) for image in images])
    np.testing.assert_array_equal(together, one_by_one)


@pytest.mark.parametrize("size", [(1, 1), (17, 40)])
def test_any_size_is_labelled(predictor, size):
    image = np.full((*size, 3), 200, np.uint8)
    label = predictor(image)
    assert label.shape == size
    assert label.max() < CLASSES


def test_float_image_counts_as_normalised(predictor, examples):
    image = examples[0][0]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = ((image / 255 - mean) / std).astype(np.float32)
    np.testing.assert_allclose(predictor.scores(normalised), predictor.scores(image), atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_example_counts_once_for_any_batch(config, predictor, examples, size):
    image, label = examples
    evaluation = evaluate(
        predictor, batches_of(image, label, size), config=config, num_images=len(image)
    )
    prediction = predictor.labels(image)
    expected = confusion_matrix(label, prediction, num_classes=CLASSES)
    np.testing.assert_array_equal(evaluation.confusion, expected)
    assert evaluation.scores.mean_iou == score(expected).mean_iou
    each = [
        score(confusion_matrix(truth, guess, num_classes=CLASSES)).mean_iou
        for truth, guess in zip(label, prediction, strict=True)
    ]
    assert evaluation.image_scores == pytest.approx(dict(enumerate(each)))
    assert abs(np.mean(each) - evaluation.scores.mean_iou) > 1e-3


def test_a_wish_to_stop_ends_without_a_result(config, predictor, examples):
    batches = batches_of(*examples, 2)
    stopped = evaluate(predictor, batches, config=config, num_images=5, should_stop=lambda: True)
    assert stopped is None


def test_a_split_without_a_labelled_pixel_is_an_error(config, predictor, examples):
    image, label = examples
    batches = batches_of(image[:2], np.full_like(label[:2], 255), 2)
    with pytest.raises(UserError, match="no labelled pixel"):
        evaluate(predictor, batches, config=config, num_images=2)
