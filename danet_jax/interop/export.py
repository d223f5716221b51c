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

from danet_base.errors import UserError
from danet_base.files import all_or_nothing, check_output
from danet_base.imagenet import MEAN, STD
from danet_jax.evaluation.inference import fold_batch_norm
from danet_jax.evaluation.look import Look
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.settings import describe
from danet_jax.interop.torch_files import checksum
from danet_jax.interop.torch_weights import from_torch, to_torch
from danet_jax.interop.whole_look import predict
from danet_jax.models.danet import DANet
from danet_jax.network import Variables
from danet_jax.ops.resize import BY_PLATFORM
from danet_jax.runs import folder as experiment

MANIFEST = "manifest.json"
# Share of pixels at which an artefact's labels have to be the predictor's.
AGREEMENT = 0.999
# And the most that a score may differ.
LARGEST_DIFFERENCE = 1e-2
# (batch, height, width) of the images that prove an artefact: no multiples of anything.
_PROOF_SHAPES = ((1, 93, 131), (2, 45, 38))
# Of a side that images are resized to, up to which a larger image is labelled, too.
_LARGEST_PROOF = 640

Labels = UInt8[np.ndarray, "b h w"]
Scores = Float[np.ndarray, "b h w s"]
# uint8 images [b, h, w, 3] → labels, scores
Runner = Callable[[np.ndarray], tuple[Labels, Scores]]


@dataclasses.dataclass(frozen=True)
class Format:
    """How one kind of artefact is written and run again."""

    # The file that holds the model.
    file: str
    # (model, variables, look, path) writes it.
    write: Callable[[DANet, Variables, Look, Path], None]
    # (path, model, look) reads it back.
    load: Callable[[Path, DANet, Look], Runner]
    # What a person who holds the file does with it.
    usage: str
    # What goes in and what comes out; see `_network_interface` and `_image_interface`.
    interface: Callable[[DANet, Sequence[str]], dict[str, Any]]
    # Whether the file itself resizes, mirrors and merges as the run's look at whole images does.
    takes_looks: bool


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
    look = contained(predictor.look, form)
    # Also what is left to the caller is done here, where it is no more than resizing and mirroring.
    proved = predictor.look if _is_whole(predictor.look) else look
    reference = Predictor(model, predictor.variables, **dataclasses.asdict(proved))
    check_output("--output", output, empty=True)
    with all_or_nothing(output) as temporary:
        path = temporary / form.file
        try:
            form.write(model, predictor.variables, look, path)
            runner = form.load(path, model, proved)
        except ImportError as error:
            raise UserError(
                f"--format {kind} needs a package that is missing or does not load: {error}. "
                "`pip install -r requirements-interop.txt` installs all that exports need."
            ) from error
        proof = [_prove(runner, reference, shape) for shape in _proof_shapes(proved)]
        files = sorted(file for file in temporary.iterdir() if file.is_file())
        manifest = {
            "format": kind,
            "usage": " ".join([form.usage, *to_do(predictor.look, look)]),
            # How `predict` looks at images, and how much of it the file does.
            "prediction": {
                "run": dataclasses.asdict(predictor.look),
                "inside_the_file": dataclasses.asdict(look),
                "left_to_the_caller": list(to_do(predictor.look, look)),
            },
            "classes": [
                {"id": index, "name": name, "color": list(color)}
                for index, (name, color) in enumerate(zip(names, colors, strict=True))
            ],
            **form.interface(model, names),
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


def contained(look: Look, form: Format) -> Look:
    """Returns the part of a look that a file of the format does itself."""
    return look if form.takes_looks and _is_whole(look) else Look()


def _is_whole(look: Look) -> bool:
    # The other rule's exponentials overflow in one file for all images.
    return look.mode == "whole" and look.merge == "softmax"


def _proof_shapes(look: Look) -> list[tuple[int, int, int]]:
    """Images that prove a file, also ones that it makes smaller where that is not much."""
    shapes = list(_PROOF_SHAPES)
    if look.short_side:
        if look.short_side <= _LARGEST_PROOF:
            shapes.append((1, look.short_side * 3 // 2 + 1, look.short_side * 5 // 4 + 1))
        if look.base_size and look.base_size <= _LARGEST_PROOF:
            # So long that the long side decides.
            thin = max(look.short_side // 2, 1)
            shapes.append((1, thin, thin * look.base_size // look.short_side * 2 + 1))
    elif look.base_size and look.base_size <= _LARGEST_PROOF:
        shapes.append((1, look.base_size * 5 // 4 + 1, look.base_size * 3 // 4 + 1))
    return shapes


def to_do(run: Look, inside: Look) -> list[str]:
    """Sentences: what remains to be done with a file, to get the labels of the run's `predict`."""
    if run == inside:
        return []
    described = describe(dataclasses.asdict(run))
    steps = [
        f"The run's predict looks at images in another way than the file ({described}); "
        "for its labels do the same around the file:"
    ]
    scales = ", ".join(f"{scale:g}" for scale in run.scales)
    if run.short_side:
        limit = (
            f", or to a long side of {run.base_size} pixels times the scale where that is smaller"
            if run.base_size
            else ""
        )
        steps.append(
            f"for each scale of {scales} resize the image (bilinear, not antialiased) to a short "
            f"side of {run.short_side} pixels times the scale, rounded down{limit}, the other side "
            "in proportion;"
        )
    elif run.base_size or run.scales != (1.0,):
        side = f"{run.base_size} pixels" if run.base_size else "its own"
        steps.append(
            f"for each scale of {scales} resize the image (bilinear, not antialiased) to a long "
            f"side of {side} times the scale, rounded up, the other side in proportion;"
        )
    if run.mode == "slide":
        assert run.crop_size is not None
        overhang = run.merge == "original"
        stride = run.stride
        steps.append(
            f"cut windows of {run.crop_size}×{run.crop_size} every {stride} pixels, "
            + ("the last beyond the end" if overhang else "the last shifted back inside")
            + ", black where there is no image, and average their scores at each pixel;"
        )
    if run.flip:
        steps.append("do all for the mirrored image, too, and mirror its scores back;")
    mean = "the mean of the softmax probabilities"
    if run.merge == "original":
        mean = "the exponential of the " + ("sum of both views' logits" if run.flip else "logits")
    steps.append(
        f"take {mean} as scores, resize them to the image's size, add them over scales, and choose "
        "the class with the highest one at each pixel."
    )
    return steps


def _image_interface(model: DANet, names: Sequence[str]) -> dict[str, Any]:
    """Of files that take images as they are and give labels."""
    return {
        "input": {
            "layout": "NHWC",
            "shape": ["batch", "height", "width", 3],
            "dtype": "uint8",
            "channels": "RGB",
            "range": [0, 255],
            "normalized_by": "the file",
            "mean": list(MEAN),
            "std": list(STD),
        },
        "output": {
            "labels": {
                "layout": "NHW",
                "shape": ["batch", "height", "width"],
                "dtype": "uint8",
                "meaning": "the class with the highest score",
            },
            "scores": {
                "layout": "NHWC",
                "shape": ["batch", "height", "width", len(names)],
                "dtype": "float32",
                "meaning": "softmax probabilities",
            },
        },
        "resize": {"method": "bilinear", "antialias": False, "align_corners": model.align_corners},
    }


def _network_interface(model: DANet, names: Sequence[str]) -> dict[str, Any]:
    """Of weights alone: the network takes normalised images and gives logits."""
    logits = ["batch", len(names), "ceil(height / stride)", "ceil(width / stride)"]
    return {
        "input": {
            "layout": "NCHW",
            "shape": ["batch", 3, "height", "width"],
            "dtype": "float32",
            "channels": "RGB",
            "range": [0, 1],
            "normalized_by": "the caller",
            # (image / 255 - mean) / std
            "mean": list(MEAN),
            "std": list(STD),
        },
        "output": {
            "fused": {
                "layout": "NCHW",
                "shape": logits,
                "stride": model.output_stride,
                "dtype": "float32",
                "meaning": "logits; resized to the image, the highest one is the label",
            },
        },
        "resize": {"method": "bilinear", "antialias": False, "align_corners": model.align_corners},
    }


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


def _write_torch(model: DANet, variables: Variables, look: Look, path: Path) -> None:
    data = safetensors.numpy.save(to_torch(variables, model), metadata={"format": "pt"})
    path.write_bytes(data)


def _load_torch(path: Path, model: DANet, look: Look) -> Runner:
    variables = from_torch(safetensors.numpy.load_file(path), model)
    return _run_jax(jax.jit(lambda image: predict(model, variables, image, look)))


# --- StableHLO -----------------------------------------------------------------------------------


def _write_stablehlo(model: DANet, variables: Variables, look: Look, path: Path) -> None:
    # Energies by rows: how many there are is not known before the image is.
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
        jax.jit(lambda image: predict(model, folded, image, look)), platforms=("cpu", "cuda", "tpu")
    )(jax.ShapeDtypeStruct(shape, jnp.uint8))
    path.write_bytes(exported.serialize())


def _load_stablehlo(path: Path, _: DANet, look: Look) -> Runner:
    return _run_jax(jax_export.deserialize(bytearray(path.read_bytes())).call)


def _run_jax(function: Callable[[Any], dict[str, jax.Array]]) -> Runner:
    def run(image: np.ndarray) -> tuple[Labels, Scores]:
        found = function(jnp.asarray(image))
        return np.asarray(found["labels"]), np.asarray(found["scores"])

    return run


# --- ONNX ----------------------------------------------------------------------------------------


def _write_onnx(model: DANet, variables: Variables, look: Look, path: Path) -> None:
    import onnxruntime  # noqa: F401 (missing packages are found before the work)
    import onnxscript  # noqa: F401
    import torch

    from danet_jax.interop.torch_danet import TorchDANet, TorchPredictor

    network = TorchDANet(model)
    state = {name: torch.from_numpy(array) for name, array in to_torch(variables, model).items()}
    # Counters of batches are all that may stay as they are.
    network.load_state_dict(state | _counters(network))
    module = TorchPredictor(network, look).eval()
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


def _load_onnx(path: Path, _: DANet, look: Look) -> Runner:
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
        usage="safetensors.torch.load_file(FILE) is the state_dict of the original DANet (v0.5.0): "
        "normalise the image by mean and std, resize output 'fused' to it, and take the argmax "
        "over classes.",
        interface=_network_interface,
        takes_looks=False,
    ),
    "stablehlo": Format(
        file="model.stablehlo",
        write=_write_stablehlo,
        load=_load_stablehlo,
        usage="pip install jax flatbuffers; then in Python: from jax import export; "
        "model = export.deserialize(bytearray(open(FILE, 'rb').read())); "
        "model.call(image[None])['labels'][0].",
        interface=_image_interface,
        takes_looks=True,
    ),
    "onnx": Format(
        file="model.onnx",
        write=_write_onnx,
        load=_load_onnx,
        usage="onnxruntime.InferenceSession(FILE).run(['labels', 'scores'], {'image': image}); "
        "position attention takes 4 * (height * width / output_stride**2)**2 bytes at least.",
        interface=_image_interface,
        takes_looks=True,
    ),
}
