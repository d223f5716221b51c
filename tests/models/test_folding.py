"""Batch norms folded into convolutions predict the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from danet_jax.models.normalization import fold_batch_norm

import danet_jax
from tests.training.tiny import random_batch, random_variables, tiny_config


@pytest.mark.parametrize(
    "fields",
    [{"backbone": "resnet50"}, {"stem": "deep", "deep_stem_width": 4, "auxiliary_head": True}],
)
def test_folded_norms_predict_the_same(fields, light_compilation):
    model = danet_jax.create_model(tiny_config(**fields).model)
    variables = random_variables(model)
    folded = fold_batch_norm(variables)
    assert set(folded) == {"params"}
    names = {path[-1].key for path, _ in jax.tree.leaves_with_path(folded)}
    assert names == {"kernel", "bias", "gamma"}
    image = jnp.asarray(random_batch(2)["image"])
    apply = jax.jit(functools.partial(model.apply, train=False))
    expected, found = apply(variables, image), apply(folded, image)
    assert found.keys() == expected.keys()
    for name, logits in expected.items():
        deviation = float(np.std(logits))
        np.testing.assert_allclose(found[name], logits, atol=2e-5 * deviation, err_msg=name)


def test_folded_norms_cannot_be_trained():
    model = danet_jax.create_model(tiny_config().model)
    folded = fold_batch_norm(random_variables(model))
    with pytest.raises(ValueError, match="folded batch norms cannot be trained"):
        model.apply(
            folded, jnp.asarray(random_batch(2)["image"]), train=True, mutable=["batch_stats"]
        )
