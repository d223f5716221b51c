"""Exported models, run by a process that does not have this project."""

import dataclasses
import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.input_pipeline.builders.camvid import NAMES
from danet_jax.interop import export
from danet_jax.interop.formats import state_dict
from danet_jax.interop.remaining_steps import remaining_steps
from danet_jax.interop.whole_image import scaled_sides
from danet_jax.runs import folder as run_folder
from tests import compiler
from tests.runs import digests, succeed

pytestmark = pytest.mark.usefixtures("light_compilation")

STRANGER = """
import sys
import numpy as np
from jax import export

try:
    import danet_jax
except ImportError:
    pass
else:
    raise SystemExit("this process has the project")
folder, images, output = sys.argv[1:]
with open(f"{folder}/model.stablehlo", "rb") as file:
    model = export.deserialize(bytearray(file.read()))
found = {}
for name, image in np.load(images).items():
    # Batches of two, which are the same twice.
    labels = np.asarray(model.call(np.stack([image, image]))["labels"])
    assert np.array_equal(labels[0], labels[1])
    found[name] = labels[1]
np.savez(output, **found)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Files of different sizes, and the same as arrays."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    arrays = {}
    for index, (height, width) in enumerate([(48, 64), (37, 50), (9, 70), (1, 1)]):
        coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
        array = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
        arrays[f"image_{index}"] = array
        Image.fromarray(array).save(folder / f"image_{index}.png")
    return folder, arrays


@pytest.fixture(scope="module")
def predicted(workplace, finished, images, tmp_path_factory):
    """Name → the labels that `predict` wrote."""
    folder, arrays = images
    output = tmp_path_factory.mktemp("predicted")
    succeed(
        workplace.run("predict", f"--workdir={finished}", f"--input={folder}", f"--output={output}")
    )
    return {name: np.asarray(Image.open(output / f"{name}_label.png")) for name in arrays}


def export_by_command(workplace, finished, kind, folder):
    output = folder / "artefact"
    outcome = workplace.run(
        "export", f"--workdir={finished}", f"--output={output}", f"--format={kind}"
    )
    assert f"{output}/model." in succeed(outcome).stdout
    assert [path.name for path in folder.iterdir()] == ["artefact"]
    manifest = json.loads((output / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["classes"]] == list(NAMES)
    assert all(proof["equal_labels"] >= 0.999 for proof in manifest["verified"])
    ((name, file),) = manifest["files"].items()
    assert digests(output)[name] == file["sha256"]
    assert (output / name).stat().st_size == file["bytes"]
    return output


def test_stablehlo_runs_without_this_project(workplace, finished, images, predicted, tmp_path):
    artefact = export_by_command(workplace, finished, "stablehlo", tmp_path)
    _, arrays = images
    np.savez(tmp_path / "images.npz", **arrays)
    subprocess.run(
        [
            sys.executable, "-I", "-c", STRANGER,
            artefact, tmp_path / "images.npz", tmp_path / "labels.npz",
        ],
        cwd=tmp_path,
        env={
            "JAX_PLATFORMS": "cpu",
            "PATH": "",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": compiler.FAST,
            "XLA_FLAGS": compiler.xla_flags(),
        },
        check=True,
    )  # fmt: skip
    found = dict(np.load(tmp_path / "labels.npz"))
    assert found.keys() == predicted.keys()
    for name, labels in predicted.items():
        assert found[name].dtype == np.uint8
        assert np.mean(found[name] == labels) >= 0.999, name


def test_torch_weights_come_back_the_same(workplace, finished, tmp_path):
    artefact = export_by_command(workplace, finished, "torch", tmp_path)
    predictor = danet_jax.Predictor.from_workdir(finished)
    arrays = safetensors.numpy.load_file(artefact / "model.safetensors")
    expected = danet_jax.to_torch(predictor.variables, predictor.model)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def write(predictor, finished, folder, *, kind="torch", **fields):
    """Exports by the function that the command calls; the fields are of config.model."""
    config = run_folder.read_config(finished)
    config.model.update(fields)
    return export.export(
        predictor,
        folder / "artefact",
        kind=kind,
        config=config,
        names=NAMES,
        colors=[(0, 0, 0)] * len(NAMES),
        source={},
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda labels, scores: ((labels + 1) % len(NAMES), scores), "labels only 0.00%"),
        (lambda labels, scores: (labels, scores + 0.1), "scores differ by up to 1.0e-01"),
        (lambda labels, scores: (labels, scores * np.nan), "scores differ by up to nan"),
        (lambda labels, scores: (labels[0], scores[0]), "labels only 0.00%"),
    ],
    ids=["labels", "scores", "no numbers", "no batch"],
)
def test_an_artefact_that_predicts_something_else_is_not_written(
    change, says, finished, monkeypatch, tmp_path
):
    def load(path, model, settings):
        right = state_dict.load(path, model, settings)
        return lambda image: change(*right(image))

    form = export.FORMATS["torch"]
    wrong = dataclasses.replace(form, load=load)
    monkeypatch.setitem(export.FORMATS, "torch", wrong)
    with pytest.raises(UserError) as caught:
        write(danet_jax.Predictor.from_workdir(finished), finished, tmp_path)
    assert says in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_a_model_whose_scores_are_no_numbers_is_not_exported(finished, tmp_path):
    predictor = danet_jax.Predictor.from_workdir(finished)
    broken = jax.tree.map(lambda x: x * np.nan, predictor.variables)
    with pytest.raises(UserError, match="not finite"):
        write(danet_jax.Predictor(predictor.model, broken), finished, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_bfloat16_run_is_exported_in_float32_and_names_no_folder(finished, tmp_path):
    predictor = danet_jax.Predictor.from_workdir(finished)
    narrow = predictor.model.clone(dtype=jnp.dtype(jnp.bfloat16))
    weights = "/home/somebody/resnet50.pth"
    narrow = danet_jax.Predictor(narrow, predictor.variables)
    write(narrow, finished, tmp_path, pretrained_backbone=weights)
    manifest = json.loads((tmp_path / "artefact" / "manifest.json").read_text())
    assert manifest["model"]["dtype"] == "float32"
    # Nor does it tell of the machine's folders.
    assert manifest["model"]["pretrained_backbone"] == "resnet50.pth"


def test_a_folder_with_files_is_left_alone(workplace, finished, tmp_path):
    (tmp_path / "mine").write_text("mine")
    before = digests(tmp_path)
    outcome = workplace.run(
        "export", f"--workdir={finished}", f"--output={tmp_path}", "--format=torch"
    )
    assert outcome.status == 2
    assert f"--output {tmp_path} is there already" in outcome.stderr
    assert digests(tmp_path) == before


# --- the run's own settings ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def resizing(finished, tmp_path_factory):
    """The finished run with test-time augmentation at two sizes."""
    workdir = tmp_path_factory.mktemp("resizing") / "run"
    shutil.copytree(finished, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["eval"] |= {"base_size": 50, "scales": [0.8, 1.5], "flip": True}
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir, danet_jax.Predictor.from_workdir(workdir)


@pytest.mark.parametrize("kind", export.FORMATS)
def test_the_manifest_says_how_to_get_the_runs_labels(kind, workplace, resizing, images, tmp_path):
    """By the manifest's own words, with nothing else known of the format."""
    torch = pytest.importorskip("torch")
    workdir, predictor = resizing
    path = export_by_command(workplace, workdir, kind, tmp_path) / export.FORMATS[kind].file
    manifest = json.loads((path.parent / "manifest.json").read_text())
    assert all(proof["equal_labels"] >= 0.999 for proof in manifest["verified"])
    # An image larger than base_size, and not square.
    assert max(manifest["verified"][-1]["images"]) > 50
    run, inside = (manifest["prediction"][name] for name in ("run", "inside_the_file"))
    assert (run["base_size"], run["scales"], run["flip"]) == (50, [0.8, 1.5], True)
    left = " ".join(manifest["prediction"]["left_to_the_caller"])
    assert manifest["usage"].endswith(left)
    _, arrays = images
    photo = next(iter(arrays.values()))
    given, given_back = manifest["input"], manifest["output"]
    x = photo[None]
    if given["normalized_by"] == "the caller":
        x = ((x / 255 - given["mean"]) / given["std"]).astype(given["dtype"])
    if given["layout"] == "NCHW":
        x = x.transpose(0, 3, 1, 2)
    assert x.dtype == given["dtype"]
    assert all(
        a in (b, "batch", "height", "width") for a, b in zip(given["shape"], x.shape, strict=True)
    )
    if kind == "torch":
        from danet_jax.interop.torch_danet import TorchDANet

        assert "long side of 50 pixels" in left
        assert "mirrored" in left
        network = TorchDANet(predictor.model).eval()
        state = {n: torch.from_numpy(a) for n, a in safetensors.numpy.load_file(path).items()}
        network.load_state_dict(state, strict=False)
        with torch.no_grad():
            logits = network(torch.from_numpy(x))["fused"]
        stride = given_back["fused"]["stride"]
        assert list(logits.shape) == [1, len(NAMES), *(-(-n // stride) for n in photo.shape[:2])]
        align = manifest["resize"]["align_corners"]
        full = torch.nn.functional.interpolate(
            logits, photo.shape[:2], mode="bilinear", align_corners=align
        )
        plain = danet_jax.Predictor(predictor.model, predictor.variables)
        assert np.mean(full.argmax(1)[0].numpy() == plain(photo)) >= 0.999
        return
    assert inside == run
    assert not left
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (labels,) = session.run(["labels"], {"image": x})
    else:
        model = jax.export.deserialize(bytearray(path.read_bytes()))
        labels = np.asarray(model.call(x)["labels"])
    assert labels.dtype == given_back["labels"]["dtype"]
    assert np.mean(labels[0] == predictor(photo)) >= 0.999


def test_windows_are_left_to_the_caller_in_words(finished, tmp_path):
    options = {"mode": "slide", "crop_size": 48}
    predictor = danet_jax.Predictor.from_workdir(finished, **options)
    path = write(predictor, finished, tmp_path)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    assert manifest["prediction"]["inside_the_file"]["mode"] == "whole"
    assert "windows of 48×48 every 32 pixels" in manifest["usage"]


def test_sides_are_those_of_the_predictor():
    rng = np.random.default_rng(0)
    for height, width in [(1, 1), (1, 700), (480, 640), *rng.integers(1, 900, (200, 2)).tolist()]:
        for limits in [(40, None), (40, 60), (None, 50), (None, None)]:
            settings = InferenceSettings(short_side=limits[0], base_size=limits[1])
            for scale in (0.01, 0.7, 1.0, 2.2):
                (expected,) = dataclasses.replace(settings, scales=(scale,)).sizes((height, width))
                found = scaled_sides(settings, scale, height, width, smaller=min, larger=max)
                if limits == (None, 50):
                    assert found == expected, (height, width, scale)
                # A product may be rounded beyond a whole number, or short of a half.
                assert np.abs(np.subtract(found, expected)).max() <= 1, (height, width, limits)


# PyTorch's exporter uses what PyTorch deprecates.
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", export.FORMATS)
def test_a_short_side_is_inside_the_file_or_said(kind, finished, images, open_sizes, tmp_path):
    pytest.importorskip("onnxruntime")
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["eval"] |= {"short_side": 40, "base_size": 60}
    (workdir / "config.json").write_text(json.dumps(config))
    predictor = danet_jax.Predictor.from_workdir(workdir)
    folder = write(predictor, workdir, tmp_path, kind=kind).parent
    manifest = json.loads((folder / "manifest.json").read_text())
    # An image that becomes smaller, and one whose long side decides.
    assert [min(proof["images"][1:]) > 40 for proof in manifest["verified"][-2:]] == [True, False]
    if kind == "torch":
        assert "short side of 40 pixels" in manifest["usage"]
        assert "long side of 60 pixels" in manifest["usage"]
        return
    assert not manifest["prediction"]["left_to_the_caller"]
    form = export.FORMATS[kind]
    runner = form.load(folder / form.file, predictor.model, predictor.settings)
    for image in images[1].values():
        labels, _ = runner(image[None])
        assert np.mean(labels[0] == predictor(image)) >= 0.999, image.shape


def test_one_view_is_not_said_to_be_two():
    settings = InferenceSettings(mode="slide", crop_size=48, merge="original")
    default = InferenceSettings()
    assert "the exponential of the logits as" in " ".join(remaining_steps(settings, default))
    both = dataclasses.replace(settings, flip=True)
    assert "sum of both views' logits" in " ".join(remaining_steps(both, default))
