"""The twin in PyTorch is the same network, also as ONNX."""

import json

import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import danet_jax
from danet_jax.evaluation.predictor import Predictor
from danet_jax.interop.torch_danet import TorchDANet, TorchPredictor
from tests.runs import succeed
from tests.training.tiny import random_variables, tiny_config

MODELS = {
    "plain": {},
    "bottlenecks, multi-grid": {"backbone": "resnet50", "multi_grid": (4, 8, 16)},
    "deep stem, stride 16": {"stem": "deep", "deep_stem_width": 2, "output_stride": 16},
    "auxiliary head": {"auxiliary_head": True, "align_corners": False},
    "position": {"attention": ("position",)},
    "channel": {"attention": ("channel",), "channel_energy": "plain"},
    "dilated FCN": {"attention": ()},
}


def twin(model, variables):
    network = TorchDANet(model)
    arrays = {n: torch.from_numpy(a) for n, a in danet_jax.to_torch(variables, model).items()}
    found = network.load_state_dict(arrays, strict=False)
    assert found.unexpected_keys == []
    assert all(name.endswith("num_batches_tracked") for name in found.missing_keys)
    return network


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_logits_agree(fields):
    model = danet_jax.create_model(tiny_config(**fields).model)
    variables = random_variables(model)
    image = np.random.default_rng(0).standard_normal((2, 50, 67, 3)).astype(np.float32)
    with torch.inference_mode():
        theirs = twin(model, variables).eval()(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    ours = model.apply(variables, jnp.asarray(image), train=False)
    assert ours.keys() == theirs.keys()
    for name, logits in theirs.items():
        expected = logits.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(ours[name], expected, atol=1e-4 * expected.std(), err_msg=name)


def test_scores_of_uint8_images_agree():
    model = danet_jax.create_model(tiny_config().model)
    variables = random_variables(model)
    image = np.random.default_rng(0).integers(0, 256, (1, 41, 58, 3), dtype=np.uint8)
    with torch.inference_mode():
        labels, scores = TorchPredictor(twin(model, variables)).eval()(torch.from_numpy(image))
    predictor = Predictor(model, variables)
    np.testing.assert_array_equal(labels[0], predictor(image[0]))
    np.testing.assert_allclose(scores[0], predictor.scores(image[0]), atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_labels_as_predict_does(workplace, finished, tmp_path):
    images, labels, artefact = (tmp_path / name for name in ("images", "labels", "artefact"))
    images.mkdir()
    rng = np.random.default_rng(0)
    for index in range(20):
        height, width = rng.integers(1, 80, 2)
        array = rng.integers(0, 256, (-(-height // 6), -(-width // 6), 3), dtype=np.uint8)
        array = array.repeat(6, 0).repeat(6, 1)[:height, :width]
        Image.fromarray(array).save(images / f"{index}.png")
    run = f"--workdir={finished}"
    succeed(workplace.run("predict", run, f"--input={images}", f"--output={labels}"))
    outcome = workplace.run("export", run, f"--output={artefact}", "--format=onnx")
    assert "verified" in succeed(outcome).stdout
    manifest = json.loads((artefact / "manifest.json").read_text())
    assert all(proof["equal_labels"] >= 0.999 for proof in manifest["verified"])

    session = onnxruntime.InferenceSession(artefact / "model.onnx")
    equal = []
    for index in range(20):
        image = np.asarray(Image.open(images / f"{index}.png"))
        (found,) = session.run(["labels"], {"image": image[None]})
        equal.append((found[0] == np.asarray(Image.open(labels / f"{index}_label.png"))).ravel())
    assert np.mean(np.concatenate(equal)) >= 0.999
