"""Prepares a trained network for inference: folds batch norms, transforms kernels."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from danet_jax.models.danet import DANet
from danet_jax.models.layers import BatchNorm
from danet_jax.ops import winograd
from danet_jax.platform import Target, for_inference
from danet_jax.runtime import parallel


def prepare(model: DANet, variables: Any, mesh: Mesh) -> tuple[DANet, Any]:
    """Returns a network and its variables, on the mesh, that predict the same in less time."""
    target = Target.of_mesh(mesh)
    implementation = for_inference(model.implementation, target, model.dtype)
    folded_model, folded = fold_batch_norm(model, variables)
    folded = parallel.to_local(folded, mesh)
    if not implementation.winograd_kernels:
        return folded_model, folded
    return transform_kernels(folded_model, folded)


def fold_batch_norm(model: DANet, variables: dict[str, Any]) -> tuple[DANet, dict[str, Any]]:
    """Returns a network and variables that predict the same without batch norms.

    Each kernel is multiplied by the factor of the norm that follows it, and the norm becomes a
    bias; there are no "batch_stats" any more.
    """
    implementation = dataclasses.replace(model.implementation, folded_norms=True)
    params = _folded(variables["params"], variables["batch_stats"])
    return model.clone(implementation=implementation), {"params": params}


def _folded(params: dict[str, Any], statistics: dict[str, Any]) -> dict[str, Any]:
    folded = {
        name: _folded(value, statistics.get(name, {})) if isinstance(value, dict) else value
        for name, value in params.items()
    }
    for name, norm in params.items():
        if not isinstance(norm, dict) or "scale" not in norm:
            continue
        # "bn1" follows "conv1", "downsample_bn" follows "downsample_conv".
        conv = name.replace("bn", "conv")
        scale, bias, mean, var, kernel = (
            np.asarray(array, np.float64)
            for array in (
                norm["scale"],
                norm["bias"],
                statistics[name]["mean"],
                statistics[name]["var"],
                params[conv]["kernel"],
            )
        )
        factor = scale / np.sqrt(var + BatchNorm.epsilon)
        dtype = norm["scale"].dtype
        folded[conv] = {"kernel": jnp.asarray(kernel * factor, dtype)}
        folded[name] = {"bias": jnp.asarray(bias - mean * factor, dtype)}
    return folded


def transform_kernels(model: DANet, variables: dict[str, Any]) -> tuple[DANet, dict[str, Any]]:
    """Returns a network and variables that predict the same by Winograd's algorithm.

    Kernels of the shapes that it suits are transformed once for all images; on CPU their
    convolutions then take half the time.
    """
    implementation = dataclasses.replace(model.implementation, winograd_kernels=True)
    model = model.clone(implementation=implementation)
    shapes = traverse_util.flatten_dict(_parameter_shapes(model))
    params = traverse_util.flatten_dict(variables["params"])
    for path, shape in shapes.items():
        # The auxiliary head is no part of a prediction, and its variables may be left out.
        if path in params and params[path].shape != shape:
            params[path] = _transform_kernel(params[path])
    return model, variables | {"params": traverse_util.unflatten_dict(params)}


_transform_kernel = jax.jit(winograd.transform_kernel)


@functools.lru_cache(maxsize=16)
def _parameter_shapes(model: DANet) -> dict[str, Any]:
    # No parameter's shape depends on the image's size.
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), image)
    return jax.tree.map(lambda x: x.shape, variables["params"])
