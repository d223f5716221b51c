"""StableHLO: prediction as one function of an image of any size, which JAX runs anywhere."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export as jax_export

from danet_jax.evaluation.inference import fold_batch_norm
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.interop.formats.format import Format, Runner, image_interface, run_jax
from danet_jax.interop.whole_image import predict
from danet_jax.models.danet import DANet
from danet_jax.network import Variables
from danet_jax.ops.resize import BY_PLATFORM


def write(model: DANet, variables: Variables, settings: InferenceSettings, path: Path) -> None:
    # Energies are computed by rows, as their number is not known before there is an image.
    by_rows = dataclasses.replace(
        model.implementation,
        convolution="native",
        position_attention="rows",
        resize=BY_PLATFORM,
    )
    model, folded = fold_batch_norm(model.clone(implementation=by_rows), variables)
    folded = jax.device_get(folded)
    shape = jax_export.symbolic_shape("b, h, w, 3")
    exported = jax_export.export(
        jax.jit(lambda image: predict(model, folded, image, settings)),
        platforms=("cpu", "cuda", "tpu"),
    )(jax.ShapeDtypeStruct(shape, jnp.uint8))
    path.write_bytes(exported.serialize())


def load(path: Path, _: DANet, settings: InferenceSettings) -> Runner:
    return run_jax(jax_export.deserialize(bytearray(path.read_bytes())).call)


FORMAT = Format(
    file="model.stablehlo",
    write=write,
    load=load,
    usage="pip install jax flatbuffers; then in Python: from jax import export; "
    "model = export.deserialize(bytearray(open(FILE, 'rb').read())); "
    "model.call(image[None])['labels'][0].",
    interface=image_interface,
    applies_settings=True,
)
