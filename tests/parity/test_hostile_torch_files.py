"""Checkpoints that were made to do harm: refused by what they are, in little memory and time."""

import codecs
import io
import pickle
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import torch

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.interop.torch_files import read_state_dict
from danet_jax.interop.torch_weights import read_checkpoint
from tests.training.tiny import random_variables, tiny_config

NAME = "pretrained.bn1.bias"


@pytest.fixture(scope="module")
def model():
    return danet_jax.create_model(tiny_config().model)


@pytest.fixture(scope="module")
def arrays(model):
    return danet_jax.to_torch(random_variables(model), model)


@pytest.fixture(scope="module")
def tensors(arrays):
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def refusal(path, model):
    with pytest.raises(UserError) as caught:
        danet_jax.from_torch(read_checkpoint(path, model), model)
    message = str(caught.value)
    assert all(character.isprintable() or character == "\n" for character in message)
    assert len(message) < 2000
    return message


class Call:
    """What calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda _: torch.empty(4, device="meta"), "no numbers: pretrained.bn1.bias is Tensor"),
        (lambda _: torch.ones(1).expand(1 << 40), "pretrained.bn1.bias is (1099511627776,)"),
        (lambda a: a.to(torch.complex64), "torch.complex64"),
        (lambda a: torch.quantize_per_tensor(a, 0.1, 0, torch.qint8), "torch.qint8"),
        (lambda a: a > 0, "torch.bool"),
        (lambda a: a.reshape((1,) * 203 + (4,)), "another shape: pretrained.bn1.bias is (1, 1, 1"),
        (lambda _: "text", "no numbers: pretrained.bn1.bias is str"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_arrays_that_no_network_has(make, says, tensors, model, tmp_path):
    path = tmp_path / "danet.pth"
    torch.save(tensors | {NAME: make(tensors[NAME])}, path)
    assert says in refusal(path, model)


def test_a_safetensors_file_of_204_dimensions(arrays, model, tmp_path):
    path = tmp_path / "danet.safetensors"
    header = b'{"a\\u001b[31m":{"dtype":"F32","shape":[%s],"data_offsets":[0,4]}}' % b",".join(
        [b"1"] * 204
    )
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    message = refusal(path, model)
    assert r"a\x1b[31m has 204 dimensions" in message


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,1600000000000]}}',
        b'{"a":{"dtype":"F32","shape":[9007199254740992,4096],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}',
        b"[" * 5000,
        b'{"a":{"dtype":"\x1b[31m","shape":[4],"data_offsets":[0,16]}}',
    ],
)
def test_a_safetensors_header_that_lies(header, model, tmp_path):
    path = tmp_path / "danet.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    assert "torn, or no safetensors file" in refusal(path, model)


def test_a_file_of_more_than_the_network_holds(model, tmp_path):
    for name in ("danet.safetensors", "danet.pth"):
        path = tmp_path / name
        with open(path, "wb") as file:
            file.truncate(50 << 30)
        message = refusal(path, model)
        assert "holds 53.7 GB" in message
        assert "this network has at most" in message


def repacked(source, target, change):
    """Copies an archive, each entry as change(name, data) → (name, data, compression)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            name, data, compression = change(entry.filename, old.read(entry))
            new.writestr(name, data, compression, 9)


def test_an_archive_that_unpacks_to_gigabytes(tensors, model, tmp_path):
    plain, path = tmp_path / "plain.pth", tmp_path / "danet.pth"
    torch.save(tensors, plain)
    repacked(plain, path, lambda name, data: (name, data, zipfile.ZIP_STORED))
    with zipfile.ZipFile(path, "a") as archive:
        # 300 MB of zeros, whose size is written down as 6.2 GB.
        archive.writestr("archive/data/9999", bytes(1 << 20), zipfile.ZIP_DEFLATED)
        archive.filelist[-1].file_size = 6_200_000_000
    tracemalloc.start()
    message = refusal(path, model)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "holds 6.2 GB" in message
    assert peak < 50e6


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_an_entry_twice(tensors, model, tmp_path):
    plain, path = tmp_path / "plain.pth", tmp_path / "danet.pth"
    torch.save(tensors, plain)
    repacked(plain, path, lambda name, data: (name, data, zipfile.ZIP_STORED))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"other")
    assert "of the same name" in refusal(path, model)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_arrays_beyond_the_end_of_their_storage(legacy, tensors, model, tmp_path):
    path = tmp_path / "danet.pth"
    torch.save({NAME: tensors[NAME]}, path, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    if legacy:
        # The number of elements in the storage's name.
        assert data.count(b"cpu") == 1
        position = data.index(b"cpu") + 3
        place = data.index(b"K\x04", position)
        path.write_bytes(data[:place] + b"J\x00\x00\x00\x7f" + data[place + 2 :])
        assert "is torn, or not a PyTorch file" in refusal(path, model)
        return
    spoilt = tmp_path / "spoilt.pth"
    # (storage, offset, size, stride): the tuple of the size follows the offset 0.
    repacked(
        path,
        spoilt,
        lambda name, data: (
            name,
            data.replace(b"K\x00K\x04\x85", b"Mw\x77K\x04\x85") if name.endswith(".pkl") else data,
            zipfile.ZIP_STORED,
        ),
    )
    assert "is torn, or not a PyTorch file" in refusal(spoilt, model)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (Call(eval, "1"), "builtins.eval"),
        (Call(__import__("os").system, "true"), "posix.system"),
        (Call(__import__("subprocess").run, "true"), "subprocess.run"),
    ],
)
def test_malware_is_called_so(call, says, legacy, tensors, model, tmp_path):
    path = tmp_path / "danet.pth"
    torch.save({"state_dict": tensors, "x": call}, path, _use_new_zipfile_serialization=not legacy)
    message = refusal(path, model)
    assert says in message
    assert "malware" in message
    assert "If you trust it" not in message


@pytest.mark.parametrize("protocol", range(6))
def test_malware_in_any_protocol(protocol, model, tmp_path):
    path = tmp_path / "danet.pth"
    path.write_bytes(pickle.dumps(Call(__import__("os").system, "true"), protocol=protocol))
    message = refusal(path, model)
    assert "posix.system" in message
    assert "malware" in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (Call(bytearray, 1 << 60), "builtins.bytearray"),
        (Call(codecs.encode, b"x" * 50, "hex"), "_codecs.encode to hex"),
    ],
)
def test_few_bytes_that_become_much_memory(content, says, tensors, model, tmp_path):
    path = tmp_path / "danet.pth"
    torch.save({"state_dict": tensors, "x": content}, path)
    assert says in refusal(path, model)


def test_a_tar_of_the_first_pytorch(model, tmp_path):
    path = tmp_path / "danet.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            entry = tarfile.TarInfo(name)
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"\x80\x02K\x00."))
    assert "before 0.1.10" in refusal(path, model)


def test_names_that_would_steer_the_terminal(tensors, model, tmp_path):
    names = ["\x1b[31mred\x1b]0;title\x07", "two\nlines", "long" * 5000, "\x9b1m", "\u202eturned"]
    path = tmp_path / "danet.pth"
    torch.save(tensors | {name: torch.zeros(2) for name in names}, path)
    message = refusal(path, model)
    assert r"left over: \x1b[31mred\x1b]0;title\x07" in message
    assert r"two\nlines" in message
    assert r"\u202eturned" in message
    arrays = {name: np.zeros(2, np.float32) for name in names}
    safetensors.numpy.save_file(arrays, tmp_path / "danet.safetensors")
    assert r"\x9b1m" in refusal(tmp_path / "danet.safetensors", model)


def test_a_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "danet.pth")
    with pytest.raises(UserError, match="is a pipe or a device"):
        read_state_dict(tmp_path / "danet.pth")
