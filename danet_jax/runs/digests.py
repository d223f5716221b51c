"""Digests of checkpoints: any bit that changes on a disk changes them."""

import concurrent.futures
import hashlib
import json
from typing import Any

import jax
import numpy as np

# Bytes of an array that one sum stands for.
_BLOCK = 4096


def digest(arrays: Any, record: dict[str, Any]) -> str:
    """Returns what changes with any bit of a checkpoint's arrays and of its record.

    Of arrays that are on several devices or processes, which hold the same, one copy is read.
    """
    # The order is that of names, since a tree that was read without its types has another one.
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree.leaves_with_path(arrays)
    }
    leaves = [named[name] for name in sorted(named)]
    # Outside Python's lock, a few at a time: on an accelerator each is copied to the host.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        checksums = list(pool.map(_checksum, leaves))
    described = [
        [checksum, str(leaf.dtype), leaf.shape]
        for checksum, leaf in zip(checksums, leaves, strict=True)
    ]
    # The record first as it comes back: lists for tuples.
    record = json.loads(json.dumps(record))
    content = json.dumps([described, record], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _checksum(leaf: jax.Array) -> str:
    """Returns a hash of the sums over an array's blocks, which any flipped bit changes.

    It takes as long as memory is read: CRC-32 twice, a hash of all bytes twenty times as long.
    """
    data = np.ascontiguousarray(leaf.addressable_data(0)).reshape(-1).view(np.uint8)
    whole = data.size // _BLOCK * _BLOCK
    blocks = data[:whole].view(np.uint64).reshape(-1, _BLOCK // 8)
    sums = blocks.sum(axis=1, dtype=np.uint64)
    return hashlib.sha256(sums.tobytes() + data[whole:].tobytes()).hexdigest()
