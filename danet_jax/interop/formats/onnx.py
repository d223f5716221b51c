"""ONNX: the same network in PyTorch, exported; it needs PyTorch and onnxscript to be written."""

from pathlib import Path
from typing import Any

import numpy as np

from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.interop.formats.format import Format, Labels, Runner, Scores, image_interface
from danet_jax.interop.torch_weights import to_torch
from danet_jax.models.danet import DANet
from danet_jax.network import Variables


def write(model: DANet, variables: Variables, settings: InferenceSettings, path: Path) -> None:
    import onnxruntime  # noqa: F401 (missing packages are found before the work)
    import onnxscript  # noqa: F401
    import torch

    from danet_jax.interop.torch_danet import TorchDANet, TorchPredictor

    network = TorchDANet(model)
    state = {name: torch.from_numpy(array) for name, array in to_torch(variables, model).items()}
    # The counters of batches keep their values; everything else must be in the state.
    network.load_state_dict(state | _counters(network))
    module = TorchPredictor(network, settings).eval()
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


def load(path: Path, _: DANet, settings: InferenceSettings) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> tuple[Labels, Scores]:
        labels, scores = session.run(["labels", "scores"], {"image": image})
        return labels, scores

    return run


FORMAT = Format(
    file="model.onnx",
    write=write,
    load=load,
    usage="onnxruntime.InferenceSession(FILE).run(['labels', 'scores'], {'image': image}); "
    "position attention takes 4 * (height * width / output_stride**2)**2 bytes at least.",
    interface=image_interface,
    applies_settings=True,
)
