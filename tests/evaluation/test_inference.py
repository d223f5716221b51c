"""Folded batch norms and transformed kernels predict the same."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import danet_jax
from danet_jax.evaluation.inference import fold_batch_norm, transform_kernels
from danet_jax.models.danet import DANet
from danet_jax.models.layers import Conv
from tests.ops.arrays import normal
from tests.training.tiny import random_batch, random_variables, tiny_config


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [{"backbone": "resnet50"}, {"stem": "deep", "deep_stem_width": 4, "auxiliary_head": True}],
)
def test_folded_norms_predict_the_same(fields, light_compilation):
    model = danet_jax.create_model(tiny_config(**fields).model)
    variables = random_variables(model)
    folded_model, folded = fold_batch_norm(model, variables)
    assert set(folded) == {"params"}
    names = {path[-1].key for path, _ in jax.tree.leaves_with_path(folded)}
    assert names == {"kernel", "bias", "gamma"}
    image = jnp.asarray(random_batch(2)["image"])
    expected, found = (
        jax.jit(functools.partial(network.apply, train=False))(its_variables, image)
        for network, its_variables in ((model, variables), (folded_model, folded))
    )
    assert found.keys() == expected.keys()
    for name, logits in expected.items():
        deviation = float(np.std(logits))
        np.testing.assert_allclose(found[name], logits, atol=2e-5 * deviation, err_msg=name)


def test_folded_norms_cannot_be_trained():
    model = danet_jax.create_model(tiny_config().model)
    folded_model, folded = fold_batch_norm(model, random_variables(model))
    with pytest.raises(ValueError, match="folded batch norms cannot be trained"):
        folded_model.apply(
            folded, jnp.asarray(random_batch(2)["image"]), train=True, mutable=["batch_stats"]
        )


class Convolutions(DANet):
    """What may and what may not be transformed."""

    @nn.compact
    def __call__(self, x, *, train):
        del train
        x = Conv(64, 3, implementation=self.implementation, name="narrow")(x)
        conv = functools.partial(Conv, 64, implementation=self.implementation)
        x = conv(3, dilation=2, use_bias=True, name="wide")(x)
        x = conv(3, stride=2, name="strided")(x)
        return conv(1, name="point")(x)


@pytest.mark.parametrize("size", [(20, 14), (2, 40)])
def test_only_what_gains_is_transformed(size, light_compilation):
    model = Convolutions(backbone="resnet10", num_classes=2)
    image = normal(1, *size, 3)
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(0), image)
    assert set(variables) == {"params"}
    prepared_model, prepared = transform_kernels(model, variables)
    # The former kernel is not kept beside it.
    assert set(prepared) == {"params"}
    params = prepared["params"]
    assert set(params) == {"narrow", "wide", "strided", "point"}
    assert set(params["wide"]) == {"kernel", "bias"}
    assert params["wide"]["kernel"].shape == (4, 4, 64, 64)
    changed = {name for name in params if params[name]["kernel"].shape[0] == 4}
    assert changed == {"wide"}
    expected = jax.jit(functools.partial(model.apply, train=False))(variables, image)
    found = jax.jit(functools.partial(prepared_model.apply, train=False))(prepared, image)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_small_networks_stay_as_they_are():
    model = danet_jax.create_model(tiny_config(auxiliary_head=True).model)
    _, variables = fold_batch_norm(model, random_variables(model))
    # As for a prediction, which needs no auxiliary head.
    del variables["params"]["auxiliary_head"]
    _, prepared = transform_kernels(model, variables)
    assert jax.tree.structure(prepared) == jax.tree.structure(variables)
    for ours, former in zip(jax.tree.leaves(prepared), jax.tree.leaves(variables), strict=True):
        assert ours is former
