"""`import-torch` of files that claim to be weights."""

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import safetensors.numpy

import danet_jax
from danet_jax.runs import config as configuration
from tests.fuzz.case import Case, Place, Rng
from tests.fuzz.mutations import NAMES, choose, encode_json, mutate_bytes, mutate_json
from tests.interop import state_dicts
from tests.interop.command import FIELDS, import_torch


def weights(place: Place, rng: Rng) -> Case:
    config = configuration.load_config("configs/camvid.py:runlocal", FIELDS)
    arrays = state_dicts.original(danet_jax.create_model(config.model))
    name = choose(rng, ("weights.safetensors", "weights.safetensors", "weights.pth"))
    file = place.folder / name
    if file.suffix == ".pth":
        _zip(file, arrays, rng)
    else:
        _safetensors(file, arrays, rng)
    more = choose(rng, ((), (), ("--allow-partial",), ("--fresh",)))
    return Case(list(import_torch(file, place.output, *more)))


def _safetensors(file: Path, arrays: dict, rng: Rng) -> None:
    arrays = dict(arrays)
    for _ in range(int(rng.integers(0, 3))):
        key = choose(rng, sorted(arrays))
        match int(rng.integers(5)):
            case 0:
                arrays[choose(rng, NAMES).replace("\ud800", "?")] = arrays.pop(key)
            case 1:
                arrays[key] = arrays[key].reshape(choose(rng, ((-1,), (1,) * 30 + (-1,))))
            case 2:
                kind = choose(rng, (np.int64, np.float64, np.uint8, np.bool_, np.float16))
                arrays[key] = arrays[key].astype(kind)
            case 3:
                arrays[key] = np.full_like(arrays[key], choose(rng, (np.nan, np.inf, 0)))
            case 4:
                del arrays[key]
    data = safetensors.numpy.save(arrays)
    if rng.random() < 0.5:
        (size,) = struct.unpack("<Q", data[:8])
        header = encode_json(mutate_json(json.loads(data[8 : 8 + size]), rng), rng)
        told = choose(rng, (len(header), len(header), 2**40, 2**63))
        data = struct.pack("<Q", told) + header + data[8 + size :]
    if rng.random() < 0.3:
        data = mutate_bytes(data, rng)
    file.write_bytes(data)


def _zip(file: Path, arrays: dict, rng: Rng) -> None:
    """A .pth file's form, without its pickle's content being right."""
    pickles = (
        b"\x80\x02}q\x00.",
        b"cos\nsystem\n(S'echo outside > /tmp/outside'\ntR.",
        b"\x80\x04\x95" + rng.bytes(60),
        b"(" * 100_000 + b".",
        b"",
    )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", choose(rng, pickles))
        archive.writestr("archive/version", "3\n")
        for index, array in enumerate(list(arrays.values())[:3]):
            data = array.tobytes()
            archive.writestr(f"archive/data/{index}", mutate_bytes(data, rng))
        if rng.random() < 0.3:
            archive.writestr(choose(rng, ("../outside", "/tmp/outside")), b"x")
        if rng.random() < 0.2:
            archive.writestr("archive/data/9", bytes(10**8))
    if rng.random() < 0.5:
        file.write_bytes(mutate_bytes(file.read_bytes(), rng))
