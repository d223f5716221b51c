"""What a compiled program holds: collectives, kinds of kernels, bytes; read from XLA's text of it.

XLA's own analysis is absent for NVIDIA GPUs without a GPU, and counts one round of a loop.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator

from danet_jax.planning.arrays import FAST_MEMORY, array_bytes, numbers

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# These instructions move nothing: they name a part of what is there, or wait for it.
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "opt-barrier",
    "partition-id",
    "replica-id",
    "iota",
}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^(ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations)=\{?((?:%?[\w.\-]+(?:, )?)+)\}?")
_BODY = re.compile(r"body=%?([\w.\-]+)")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# Lists of chips; groups × chips of a group; or the axes of a mesh, of which some are named behind.
_GROUPS = re.compile(
    r"replica_groups=(?:\{\{([\d,]*)\}|\[(\d+),(\d+)\]|mesh\[([^\]]*)\] ?\{([^}]*)\})"
)
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_PARTITIONS = re.compile(r"num_partitions=(\d+)")
_SUB_AXIS = re.compile(r"'([^']+)'(?::\(\d+\)(\d+))?")
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_FUSION_KIND = re.compile(r'"kind":"([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between chips.

    bytes: of what it is given on each chip, in all its arrays. group: the chips that exchange.
    """

    kind: str
    bytes: int
    group: int

    @property
    def sent(self) -> float:
        """Bytes that a chip sends, at least, where the chips exchange parts in a ring."""
        share = (self.group - 1) / self.group
        match self.kind:
            case "all-reduce":
                return 2 * share * self.bytes
            case "all-gather":
                return float((self.group - 1) * self.bytes)
            case "collective-permute":
                return float(self.bytes)
        return share * self.bytes


@dataclasses.dataclass(frozen=True)
class Contents:
    """What one chip does in a run of the program.

    collectives: how often each occurs, rounds of loops counted. kernels: how many instructions are
    convolutions and products, by what they became. bytes: that instructions read and write.
    """

    collectives: dict[Collective, int]
    kernels: dict[str, int]
    bytes: int

    @property
    def sent(self) -> float:
        """Bytes that a chip sends to others."""
        return sum((one.sent * count for one, count in self.collectives.items()), 0.0)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    is_root: bool
    type: str
    operation: str
    # `arguments` is the text in its parentheses, and `attributes` the text behind them.
    arguments: str
    attributes: str

    @functools.cached_property
    def operands(self) -> tuple[str, ...]:
        return tuple(re.findall(r"%([\w.\-]+)", self.arguments))

    @functools.cached_property
    def bytes(self) -> int:
        """Of its result, in the chip's main memory."""
        return array_bytes(self.type, main_memory=True)


def read_contents(text: str) -> Contents:
    """Returns what an optimised program holds.

    Args:
      text: of `jax.stages.Compiled.as_text`.
    """
    entry, computations = _parse(text)
    collectives: collections.Counter[Collective] = collections.Counter()
    kernels: collections.Counter[str] = collections.Counter()
    partitions = _PARTITIONS.search(text)
    chips = int(partitions[1]) if partitions else 1
    channels: set[str] = set()
    for instruction, times, of in _executed(entry, computations, 1):
        if collective := _collective(instruction, of, chips):
            # A TPU writes down the start, the middle and the end of an exchange that it makes
            # beside other work, each with the whole of it.
            channel = _CHANNEL.search(instruction.attributes)
            if channel is None or channel[1] not in channels:
                collectives[collective] += times
            channels |= {channel[1]} if channel else set()
        if kernel := _kernel(instruction):
            kernels[kernel] += 1
    return Contents(dict(collectives), dict(kernels), _bytes(entry, computations))


def _parse(text: str) -> tuple[str, dict[str, dict[str, _Instruction]]]:
    """The name of the entry computation, and all of them by name."""
    entry, current = "", None
    computations: dict[str, dict[str, _Instruction]] = {}
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            current = computations.setdefault(match[2], {})
            entry = match[2] if match[1] else entry
        elif current is not None and (instruction := _instruction(line.strip())):
            current[instruction.name] = instruction
    return entry, computations


def _instruction(line: str) -> _Instruction | None:
    match = _INSTRUCTION.match(line)
    if match is None:
        return None
    rest = line[match.end() :]
    # A tuple's type holds spaces, and the layouts in it parentheses.
    end = _closing(rest, 0) if rest.startswith("(") else rest.find(" ") - 1
    type_text, rest = rest[: end + 1], rest[end + 1 :].lstrip()
    operation, _, _ = rest.partition("(")
    close = _closing(rest, len(operation))
    return _Instruction(
        match[2],
        bool(match[1]),
        type_text,
        operation,
        rest[len(operation) + 1 : close],
        rest[close + 1 :],
    )


def _closing(text: str, start: int) -> int:
    """The index of the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return len(text)


def _called(instruction: _Instruction) -> list[str]:
    if instruction.operation in ("all-reduce", "reduce-scatter", "all-reduce-start"):
        # It calls an addition.
        return []
    return [
        name.strip().lstrip("%")
        for names in _CALLED.findall(instruction.attributes)
        for name in names.split(",")
        if name.strip()
    ]


def _trips(instruction: _Instruction, computations: dict[str, dict[str, _Instruction]]) -> int:
    """The rounds of a loop; 1 for other instructions, and where the text does not tell them."""
    if instruction.operation != "while":
        return 1
    if match := _TRIPS.search(instruction.attributes):
        return int(match[1])
    # A TPU's text says only how long a counter, which begins at 0, is below a constant.
    match = _CONDITION.search(instruction.attributes)
    condition = computations.get(match[1], {}) if match else {}
    root = next((inner for inner in condition.values() if inner.is_root), None)
    if root is None or root.operation != "compare" or "direction=LT" not in root.attributes:
        return 1
    limit = condition.get(root.operands[-1])
    is_number = limit is not None and limit.operation == "constant"
    return int(limit.arguments) if limit is not None and is_number else 1


def _executed(
    name: str, computations: dict[str, dict[str, _Instruction]], times: int
) -> Iterator[tuple[_Instruction, int, dict[str, _Instruction]]]:
    """All instructions below a computation, how often each runs, and those beside it."""
    instructions = computations.get(name, {})
    for instruction in instructions.values():
        yield instruction, times, instructions
        if _kernel(instruction):
            # What is inside a kernel is a part of it.
            continue
        for called in _called(instruction):
            yield from _executed(called, computations, times * _trips(instruction, computations))


def _collective(
    instruction: _Instruction, beside: dict[str, _Instruction], chips: int
) -> Collective | None:
    kind = instruction.operation.removesuffix("-start")
    if kind not in _KINDS:
        return None
    size = sum(array_bytes(beside[name].type) for name in instruction.operands if name in beside)
    group = _group(instruction.attributes, chips)
    return Collective(kind, size, group) if group > 1 else None


def _group(attributes: str, chips: int) -> int:
    """How many of all chips exchange; 2 where the text names pairs."""
    if "replica_groups={}" in attributes:
        return chips
    match = _GROUPS.search(attributes)
    if match is None:
        return 2
    if match[4] is not None:
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match[4])}
        axes = _SUB_AXIS.findall(match[5])
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    return int(match[3]) if match[3] else len(numbers(match[1]))


def _kernel(instruction: _Instruction) -> str | None:
    """What a convolution or a product became; None for other instructions."""
    match instruction.operation:
        case "convolution":
            return "convolution"
        case "dot":
            return "product"
        case "custom-call":
            target = _TARGET.search(instruction.attributes)
            if target and re.search("conv|gemm|matmul", target[1], re.IGNORECASE):
                return target[1]
        case "fusion":
            kind = _FUSION_KIND.search(instruction.attributes)
            if kind and "gemm" in kind[1]:
                return kind[1]
    return None


def _bytes(name: str, computations: dict[str, dict[str, _Instruction]]) -> int:
    """What the instructions of a computation read and write, those of loops in each round."""
    instructions = computations.get(name, {})
    total = 0
    for instruction in instructions.values():
        operation = instruction.operation
        if operation in _FREE or operation in ("async-done", "async-update"):
            continue
        if operation in ("while", "call", "conditional", "async-start"):
            inner = [_bytes(called, computations) for called in _called(instruction)]
            total += max(inner, default=0) * _trips(instruction, computations)
            continue
        body = {}
        if operation == "fusion":
            body = computations.get("".join(_called(instruction)[:1]), {})
        total += _written(instruction, body) + _read(instruction, body, instructions)
    return total


def _written(instruction: _Instruction, body: dict[str, _Instruction]) -> int:
    """The bytes of the result; of one that is an array with a part replaced, those of the part."""
    if instruction.operation.endswith("-start"):
        # Its type may hold its operands, too; the result is that of what waits for it.
        return 0
    root = next((inner for inner in body.values() if inner.is_root), instruction)
    if root.operation == "dynamic-update-slice":
        update = (body or {}).get(root.operands[1])
        return update.bytes if update else 0
    return instruction.bytes


def _read(
    instruction: _Instruction,
    body: dict[str, _Instruction],
    beside: dict[str, _Instruction],
) -> int:
    """The bytes of the operands; of those that are only sliced, those of the slices."""
    if instruction.operation.endswith("-done"):
        return 0
    if instruction.operation in ("dynamic-slice", "slice", "gather"):
        return instruction.bytes
    if instruction.operation in ("dynamic-slice-start", "slice-start"):
        # Its type is (its operands, its result, …); the result's size is that of what is read.
        operands = _closing(instruction.type[1:], 0)
        result = instruction.type[operands + 3 :].lstrip()
        return array_bytes(FAST_MEMORY.sub("", result.partition(" ")[0]), main_memory=True)
    if instruction.operation == "dynamic-update-slice":
        update = beside.get(instruction.operands[1])
        return 2 * update.bytes if update else 0
    parameters = {
        int(inner.arguments): inner for inner in body.values() if inner.operation == "parameter"
    }
    total = 0
    for index, name in enumerate(instruction.operands):
        if name not in beside:
            continue
        size = beside[name].bytes
        parameter = parameters.get(index)
        if parameter is not None:
            users = [inner for inner in body.values() if parameter.name in inner.operands]
            slices = [
                user
                for user in users
                if user.operation in ("dynamic-slice", "slice", "gather")
                or (user.operation == "dynamic-update-slice" and user.operands[0] == parameter.name)
            ]
            if users and len(slices) == len(users):
                parts = (0 if "update" in user.operation else user.bytes for user in slices)
                size = min(size, sum(parts))
        total += size
    return total
