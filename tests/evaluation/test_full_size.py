"""Labels and logits at the size of the images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import danet_jax
from danet_jax.evaluation.full_size import full_labels, full_logits
from tests.training.tiny import random_variables, tiny_config


@pytest.mark.parametrize("classes", [1, 255])
def test_one_to_255_classes_are_labelled(classes):
    model = danet_jax.create_model(tiny_config(num_classes=classes, attention=()).model)
    variables = random_variables(model)
    # The last class wins everywhere, whatever the image.
    bias = variables["params"]["head"]["fused_classifier"]["conv"]["bias"]
    variables["params"]["head"]["fused_classifier"]["conv"]["bias"] = bias.at[-1].add(1e3)
    predict = jax.jit(functools.partial(full_labels, model))
    labels = predict(variables, jnp.zeros((1, 32, 32, 3), jnp.uint8))
    np.testing.assert_array_equal(labels, classes - 1)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("height", [1, 64, 65, 130])
def test_labels_by_rows_are_those_of_all_logits(height, align_corners, light_compilation):
    model = danet_jax.create_model(tiny_config(align_corners=align_corners).model)
    variables = random_variables(model)
    images = np.random.default_rng(0).integers(0, 256, (2, height, 40, 3), dtype=np.uint8)
    expected = jax.jit(lambda x: full_logits(model, variables, x))(images).argmax(-1)
    found = jax.jit(lambda x: full_labels(model, variables, x))(images)
    assert found.dtype == jnp.uint8
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 1 or height == 1
