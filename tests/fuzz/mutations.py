"""Damage to bytes, texts and JSON, drawn from a random generator."""

import copy
import json
from typing import Any

import numpy as np

from tests.fuzz.case import Rng

# Names of files, classes, arrays and ids that have surprised programs before.
NAMES = (
    "../outside",
    "/tmp/outside",
    "a/../../outside",
    "..",
    "",
    " ",
    "a b",
    "-rf",
    "\x1b[2J\x1b[31mred",
    "line\nbreak",
    "nul\0byte",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "%s%n",
    "[bold]rich[/bold]",
    "é" * 60,
    "n" * 300,
    "\ud800",
    "\u202etxt.exe",
    "CON",
)
VALUES: tuple[Any, ...] = (
    *NAMES,
    None,
    True,
    0,
    -1,
    1,
    255,
    256,
    2**31,
    2**63,
    2**64,
    -(2**63),
    10**400,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [None],
    ["a", 1],
    {"a": {"b": []}},
)


def choose(rng: Rng, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def mutate_bytes(data: bytes, rng: Rng) -> bytes:
    """Flips, cuts, repeats, inserts or overwrites; one to three times."""
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        size = len(damaged)
        if size == 0:
            return bytes(damaged)
        at = int(rng.integers(size))
        # Headers are short, so half of the damage goes to the first bytes.
        if rng.random() < 0.5:
            at = min(at, int(rng.integers(64)))
        length = int(rng.integers(1, 33))
        match int(rng.integers(6)):
            case 0:
                damaged[at] ^= 1 << int(rng.integers(8))
            case 1:
                del damaged[at:]
            case 2:
                del damaged[at : at + length]
            case 3:
                damaged[at:at] = damaged[at : at + length] * int(rng.integers(1, 20))
            case 4:
                damaged[at:at] = rng.bytes(length)
            case 5:
                extreme = choose(rng, (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
                damaged[at : at + len(extreme)] = extreme
    return bytes(damaged)


def mutate_text(text: str, rng: Rng) -> bytes:
    """Lines doubled, dropped, replaced or mixed; other encodings, ends of lines and signs."""
    lines = text.splitlines()
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines) + 1))
        match int(rng.integers(6)):
            case 0:
                lines.insert(at, choose(rng, NAMES).replace("\ud800", "?"))
            case 1:
                lines[at : at + 1] = []
            case 2:
                lines[at:at] = lines[:at]
            case 3:
                lines = [f"{index}{choose(rng, ' :,=;')}{line}" for index, line in enumerate(lines)]
            case 4:
                lines = [f"{line}{choose(rng, ' ,;')}{int(rng.integers(300))}" for line in lines]
            case 5:
                lines.insert(
                    at, choose(rng, ("# comment", "name,r,g,b", "{", "[1", '"', "---", ""))
                )
    ending = choose(rng, ("\n", "\r\n", "\r"))
    encoding = choose(rng, ("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    data = ending.join([*lines, ""]).encode(encoding, errors="replace")
    return mutate_bytes(data, rng) if rng.random() < 0.2 else data


def mutate_json(value: Any, rng: Rng) -> Any:
    """The value with one to three of its nodes replaced, removed, doubled or renamed."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        nodes = list(_nodes(value))
        if not nodes:
            return choose(rng, VALUES)
        parent, key = choose(rng, nodes)
        match int(rng.integers(5)):
            case 0 | 1:
                parent[key] = choose(rng, VALUES)
            case 2:
                del parent[key]
            case 3 if isinstance(parent, list):
                parent.extend(copy.deepcopy(parent[key]) for _ in range(int(rng.integers(1, 5))))
            case 3:
                parent[choose(rng, NAMES)] = copy.deepcopy(parent[key])
            case 4:
                parent[key] = [parent[key]] if rng.random() < 0.5 else {"a": parent[key]}
    return value


def encode_json(value: Any, rng: Rng) -> bytes:
    """JSON's text, mostly whole; sometimes nested too deep, too long, or torn."""
    text = json.dumps(value, ensure_ascii=bool(rng.random() < 0.5))
    match int(rng.integers(12)):
        case 0:
            text = "[" * 100_000 + "]" * 100_000
        case 1:
            text = '{"a":' * 50_000 + text
        case 2:
            text = text.replace("1", "1" * 5000)
        case 3:
            text = text[: int(rng.integers(len(text) + 1))]
        case 4:
            return mutate_bytes(text.encode(errors="replace"), rng)
        case 5:
            return text.encode("utf-16", errors="replace")
    return text.encode(errors="replace")


def _nodes(value: Any) -> Any:
    """(container, key) of every node below a value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield value, key
            yield from _nodes(item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield value, index
            yield from _nodes(item)


def photo(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """Noise, uint8 [h, w, 3]."""
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)
