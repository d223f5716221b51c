"""What torch.save writes, whole and spoiled; no pickle's code ever runs."""

import collections
import pickle
import sys
import types

import jax
import numpy as np
import pytest
import torch

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.interop.torch_danet import TorchDANet
from danet_jax.interop.torch_files import read_state_dict
from tests.training.tiny import random_variables, tiny_config


@pytest.fixture(scope="module")
def model():
    return danet_jax.create_model(tiny_config().model)


@pytest.fixture(scope="module")
def variables(model):
    return random_variables(model)


@pytest.fixture(scope="module")
def network(model, variables):
    network = TorchDANet(model)
    arrays = {n: torch.from_numpy(a) for n, a in danet_jax.to_torch(variables, model).items()}
    network.load_state_dict(arrays, strict=False)
    return network


class Code:
    """What runs when it is unpickled; the file that it makes would give it away."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return open, (str(self.witness), "w")


class HistoryBuffer:
    """As mmengine's: an array of numbers, under its name."""

    def __init__(self):
        self._log_history = np.arange(3.0)


@pytest.fixture
def mmengine(monkeypatch):
    """The module that the class is pickled as a part of."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer
    monkeypatch.setattr(HistoryBuffer, "__module__", module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)


class Foreign:
    """An object of a training script."""


LAYOUTS = {
    "bare": lambda state: state,
    "state_dict inside": lambda state: {
        "epoch": 3,
        "state_dict": state,
        "best_pred": np.float64(0.8),
    },
    "mmengine's": lambda state: {
        "meta": {"epoch": 3, "mean": np.zeros(3)},
        "state_dict": state,
        "message_hub": {"loss": HistoryBuffer()},
    },
    "model inside": lambda state: {"model": state, "optimizer": {}},
    "data parallel": lambda state: collections.OrderedDict(
        (f"module.{name}", array) for name, array in state.items()
    ),
    "parameters": lambda state: {n: torch.nn.Parameter(a) for n, a in state.items() if a.ndim},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_files_that_training_scripts_write(
    layout, legacy, network, model, variables, mmengine, tmp_path
):
    path = tmp_path / "danet.pth.tar"
    torch.save(layout(network.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    found = danet_jax.from_torch(read_state_dict(path), model)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_a_live_module_converts(network, model, variables):
    found = danet_jax.from_torch(network.state_dict(), model)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    halves = {name: array.bfloat16() for name, array in network.state_dict().items() if array.ndim}
    narrow = danet_jax.from_torch(halves, model)
    expected = halves["head.conv8.1.weight"].float().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(
        narrow["params"]["head"]["fused_classifier"]["conv"]["kernel"], expected
    )


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_state_dict(path)
    return str(caught.value)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_pickle_does_not_run(legacy, network, tmp_path):
    path, witness = tmp_path / "danet.pth", tmp_path / "it_ran"
    torch.save(
        {"state_dict": network.state_dict(), "more": Code(witness)},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    message = refusal(path)
    assert str(path) in message
    assert "asks for Python objects that could run code: io.open." in message
    assert "malware" in message
    assert not witness.exists()


def test_a_plain_pickle_is_refused(tmp_path):
    path, witness = tmp_path / "danet.pth", tmp_path / "it_ran"
    path.write_bytes(pickle.dumps(Code(witness)))
    assert str(path) in refusal(path)
    assert not witness.exists()


def test_objects_of_a_training_script_are_named(network, tmp_path):
    path = tmp_path / "danet.pth"
    torch.save({"state_dict": network.state_dict(), "args": Foreign()}, path)
    message = refusal(path)
    assert "tests.parity.test_torch_files.Foreign" in message
    assert "save its state_dict alone" in message
    assert "malware" not in message


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_torn_file(kept, legacy, network, tmp_path):
    path = tmp_path / "danet.pth"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert f"checkpoint {path} is torn, or not a PyTorch file: " in refusal(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2, 3], "holds a list, not a state_dict"),
        ({"epoch": 3, "lr": 0.1}, "holds no arrays; its entries are epoch, lr"),
        (torch.zeros(3), "holds a Tensor, not a state_dict"),
    ],
)
def test_files_of_something_else(content, says, tmp_path):
    path = tmp_path / "danet.pth"
    torch.save(content, path)
    assert says in refusal(path)


@pytest.mark.parametrize("protocol", [4, 5])
def test_other_pickle_protocols_are_refused(protocol, network, tmp_path):
    path = tmp_path / "danet.pth"
    torch.save(network.state_dict(), path, pickle_protocol=protocol)
    message = refusal(path)
    assert f"by protocol {protocol}" in message
    assert "torch.save without pickle_protocol" in message


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_archive(tmp_path):
    path = tmp_path / "danet.pth"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert "is a TorchScript archive; save model.state_dict()" in refusal(path)


def test_sparse_tensors_hold_no_numbers(network, model):
    arrays = dict(network.state_dict())
    arrays["head.conv6.1.bias"] = arrays["head.conv6.1.bias"].to_sparse()
    with pytest.raises(UserError, match=r"no numbers: head\.conv6\.1\.bias is Tensor.*sparse"):
        danet_jax.from_torch(arrays, model)


def test_text_under_the_name_of_a_checkpoint(tmp_path):
    path = tmp_path / "danet.pth"
    path.write_text("not a checkpoint\n" * 50)
    assert "is torn, or not a PyTorch file" in refusal(path)
