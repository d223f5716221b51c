"""A trained model as files that run without this project, each proven on an image."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import safetensors.numpy
from jax import export as jax_export
from jaxtyping import Float, UInt8

from danet_jax import experiment
from danet_jax.errors import UserError
from danet_jax.evaluation.predictor import Predictor
from danet_jax.files import all_or_nothing, check_output
from danet_jax.interop.torch_files import checksum
from danet_jax.interop.torch_weights import from_torch, to_torch
from danet_jax.models.danet import MEAN, STD, DANet, full_logits
from danet_jax.models.normalization import fold_batch_norm
from danet_jax.training.state import Variables

MANIFEST = "manifest.json"
# Share of pixels at which an artefact's labels have to be the predictor's.
AGREEMENT = 0.999
# And the most that a score may differ.
LARGEST_DIFFERENCE = 1e-2
# (batch, height, width) of the images that prove an artefact: no multiples of anything.
_PROOF_SHAPES = ((1, 93, 131), (2, 45, 38))

Labels = UInt8[np.ndarray, "b h w"]
Scores = Float[np.ndarray, "b h w s"]
# uint8 images [b, h, w, 3] → labels, scores
Runner = Callable[[np.ndarray], tuple[Labels, Scores]]


@dataclasses.dataclass(frozen=True)
class Format:
    """How one kind of artefact is written and run again."""

    # The file that holds the model.
    file: str
    # (model, variables, path) writes it.
    write: Callable[[DANet, Variables, Path], None]
    # (path, model) reads it back.
    load: Callable[[Path, DANet], Runner]
    # What a person who holds the file does with it.
    usage: str


def export(
    predictor: Predictor,
    output: Path,
    *,
    kind: str,
    config: ml_collections.ConfigDict,
    names: Sequence[str],
    colors: Sequence[Sequence[int]],
    source: Mapping[str, Any],
) -> Path:
    """Writes a model and its manifest to a new folder; returns the model's file.

    Args:
      predictor: the trained model.
      output: a folder that is not there yet, or empty.
      kind: a key of FORMATS.
      config: what it was trained with.
      names: of the classes.
      colors: RGB of the classes.
      source: where the weights are from, for the manifest.

    Raises:
      UserError: the folder holds files, a package that the format needs is missing, or the artefact
        does not predict as the predictor does; nothing is left behind then.
    """
    form = FORMATS[kind]
    # Where a link leads.
    output = output.resolve()
    # In float32 whatever it was trained in: bfloat16 is rounded differently everywhere.
    model = predictor.model.clone(dtype=jnp.dtype(jnp.float32))
    reference = Predictor(model, predictor.variables)
    check_output("--output", output, empty=True)
    with all_or_nothing(output) as temporary:
        path = temporary / form.file
        try:
            form.write(model, predictor.variables, path)
            runner = form.load(path, model)
        except ImportError as error:
            raise UserError(
                f"--format {kind} needs a package that is missing or does not load: {error}. "
                "`pip install -r requirements-interop.txt` installs all that exports need."
            ) from error
        proof = [_prove(runner, reference, shape) for shape in _PROOF_SHAPES]
        files = sorted(file for file in temporary.iterdir() if file.is_file())
        manifest = {
            "format": kind,
            "usage": form.usage,
            "classes": [
                {"id": index, "name": name, "color": list(color)}
                for index, (name, color) in enumerate(zip(names, colors, strict=True))
            ],
            "input": {
                "layout": "[batch, height, width, 3] RGB uint8, any sizes",
                # Of RGB in [0, 1].
                "mean": list(MEAN),
                "std": list(STD),
            },
            "output": {
                "labels": "[batch, height, width] uint8, the most probable class",
                "scores": f"[batch, height, width, {len(names)}] float32, softmax",
                "resize": f"bilinear, align_corners={config.model.align_corners}",
            },
            "model": config.model.to_dict() | {"dtype": "float32"},
            "source": dict(source),
            "verified": proof,
            "files": {
                file.name: {"bytes": file.stat().st_size, "sha256": checksum(file)}
                for file in files
            },
            "versions": experiment.versions(),
        }
        # Written last, and brought last.
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n")
    return output / form.file


def _prove(runner: Runner, predictor: Predictor, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Compares an artefact with the predictor on images; raises a UserError where it differs."""
    batch, height, width = shape
    generator = np.random.default_rng(0)
    # Smooth, so that labels come in areas, as in photographs.
    coarse = generator.integers(0, 256, (batch, 12, 17, 3)).astype(np.float32)
    image = np.asarray(jax.image.resize(coarse, (batch, height, width, 3), "cubic"))
    image = np.clip(image, 0, 255).astype(np.uint8)
    labels, scores = runner(image)
    expected = predictor.labels(image)
    probabilities = np.stack([predictor.scores(one) for one in image])
    if not np.isfinite(probabilities).all():
        raise UserError("the run's own scores are not finite, so there is no model to export.")
    fits = labels.shape == expected.shape and scores.shape == probabilities.shape
    agreement = float(np.mean(labels == expected)) if fits else 0.0
    difference = float(np.abs(scores - probabilities).max()) if fits else np.inf
    # Not the other way around: a difference may be no number.
    if not (agreement >= AGREEMENT and difference <= LARGEST_DIFFERENCE):
        raise UserError(
            f"the exported model labels only {agreement:.2%} of a test image's pixels as the "
            f"run's own does, and scores differ by up to {difference:.1e}; nothing was written."
        )
    return {
        "images": list(shape),
        "equal_labels": agreement,
        "largest_score_difference": difference,
    }


# --- PyTorch -------------------------------------------------------------------------------------


def _write_torch(model: DANet, variables: Variables, path: Path) -> None:
    data = safetensors.numpy.save(to_torch(variables, model), metadata={"format": "pt"})
    path.write_bytes(data)


def _load_torch(path: Path, model: DANet) -> Runner:
    variables = from_torch(safetensors.numpy.load_file(path), model)
    return _run_jax(jax.jit(lambda image: _predict(model, variables, image)))


# --- StableHLO -----------------------------------------------------------------------------------


def _write_stablehlo(model: DANet, variables: Variables, path: Path) -> None:
    # Energies by rows: how many there are is not known before the image is.
    model = model.clone(position_attention="chunked")
    folded = jax.device_get(fold_batch_norm(variables))
    shape = jax_export.symbolic_shape("b, h, w, 3")
    exported = jax_export.export(
        jax.jit(lambda image: _predict(model, folded, image)), platforms=("cpu", "cuda", "tpu")
    )(jax.ShapeDtypeStruct(shape, jnp.uint8))
    path.write_bytes(exported.serialize())


def _load_stablehlo(path: Path, _: DANet) -> Runner:
    return _run_jax(jax_export.deserialize(bytearray(path.read_bytes())).call)


def _predict(model: DANet, variables: Variables, image: jax.Array) -> dict[str, jax.Array]:
    logits = full_logits(model, variables, image)
    return {
        "labels": jnp.argmax(logits, axis=-1).astype(jnp.uint8),
        "scores": jax.nn.softmax(logits, axis=-1),
    }


def _run_jax(function: Callable[[Any], dict[str, jax.Array]]) -> Runner:
    def run(image: np.ndarray) -> tuple[Labels, Scores]:
        found = function(jnp.asarray(image))
        return np.asarray(found["labels"]), np.asarray(found["scores"])

    return run


# --- ONNX ----------------------------------------------------------------------------------------


def _write_onnx(model: DANet, variables: Variables, path: Path) -> None:
    import onnxruntime  # noqa: F401 (missing packages are found before the work)
    import onnxscript  # noqa: F401
    import torch

    from danet_jax.interop.torch_danet import TorchDANet, TorchPredictor

    network = TorchDANet(model)
    state = {name: torch.from_numpy(array) for name, array in to_torch(variables, model).items()}
    # Counters of batches are all that may stay as they are.
    network.load_state_dict(state | _counters(network))
    module = TorchPredictor(network).eval()
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        module,
        (torch.zeros((2, 65, 97, 3), dtype=torch.uint8),),
        dynamo=True,
        dynamic_shapes=({0: dynamic, 1: dynamic, 2: dynamic},),
        input_names=["image"],
        output_names=["labels", "scores"],
        verbose=False,
    )
    program.save(path)


def _counters(network: Any) -> dict[str, Any]:
    return {n: a for n, a in network.state_dict().items() if n.endswith("num_batches_tracked")}


def _load_onnx(path: Path, _: DANet) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> tuple[Labels, Scores]:
        labels, scores = session.run(["labels", "scores"], {"image": image})
        return labels, scores

    return run


FORMATS = {
    "torch": Format(
        file="model.safetensors",
        write=_write_torch,
        load=_load_torch,
        usage="safetensors.torch.load_file(FILE) is the state_dict of the original DANet (v0.5.0); "
        "its input is normalised NCHW",
    ),
    "stablehlo": Format(
        file="model.stablehlo",
        write=_write_stablehlo,
        load=_load_stablehlo,
        usage="pip install jax flatbuffers; then in Python: from jax import export; "
        "model = export.deserialize(bytearray(open(FILE, 'rb').read())); "
        "model.call(image[None])['labels'][0]",
    ),
    "onnx": Format(
        file="model.onnx",
        write=_write_onnx,
        load=_load_onnx,
        usage="onnxruntime.InferenceSession(FILE).run(['labels', 'scores'], {'image': image}); "
        "position attention takes 4 * (height * width / output_stride**2)**2 bytes at least",
    ),
}
