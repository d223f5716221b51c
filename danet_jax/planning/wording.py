"""A plan in words: the rows of its table, and what a reader has to know beside it."""

import math
from collections.abc import Sequence
from typing import Any

from danet_jax.planning.plans import Plan, is_too_large
from danet_jax.planning.remedies import GPU_VARIABLE, usable_memory

# The rows of a plan that a step has to be compiled for.
_MEASURED = (
    "parameters",
    "optimiser",
    "temporaries",
    "operations",
    "bytes accessed",
    "bytes sent",
    "collectives",
    "convolutions and products",
    "arithmetic at its peak",
    "memory at its peak",
    "network at its peak",
    "limited by",
    "a step",
    "steps",
    "all steps",
    "compiled in",
    "peaks from",
)


def rows(one: Plan) -> dict[str, str]:
    """Returns the names and the texts of a plan's rows."""
    measured, times = one.measured, one.roofline
    need = measured.get("memory_bytes")
    texts = {
        "chips, hosts": f"{one.topology.chips}, {one.topology.hosts}",
        "examples at a time": f"{one.examples:g}",
        "memory needed": "–" if need is None else _binary(need),
        "memory usable": _binary(usable_memory(one.topology)),
        "fits": _answer(one),
    }
    if times is None:
        return texts | dict.fromkeys(_MEASURED, "–")
    values = (
        _binary(measured["parameter_bytes"]),
        _binary(measured["optimizer_bytes"]),
        _binary(measured["temporary_bytes"]),
        _decimal(measured["operations"], "FLOP"),
        _decimal(float(measured["bytes_accessed"]), "B"),
        _decimal(measured["bytes_sent"], "B"),
        _collectives(measured),
        _kernels(measured),
        _duration(times.arithmetic),
        _duration(times.memory),
        _duration(times.network),
        times.limit,
        _range(times.range),
        "unknown" if one.steps is None else f"{one.steps:,}",
        "–" if one.hours is None else _range((3600 * one.hours[0], 3600 * one.hours[1])),
        _duration(measured["compile_seconds"]),
        one.topology.chip.source.partition(" ")[0].removeprefix("https://"),
    )
    return texts | dict(zip(_MEASURED, values, strict=True))


def notes(plans: Sequence[Plan]) -> list[str]:
    """Returns what a person has to know beside the table."""
    lines = [
        "Compiled, not run. Memory, bytes, exchanges and kernels are the compiled program's; "
        "operations are those of convolutions and products in the step that it was compiled from, "
        "divided among the chips; times follow from published peaks. The first time of a step has "
        "arithmetic, memory and network overlap at their peaks, and is seldom reached; the second "
        "is their sum at half of each peak. Evaluations, compilation and waiting for data come on "
        "top."
    ]
    if any(one.topology.chip.platform == "gpu" for one in plans):
        lines.append(
            f"JAX takes three quarters of a GPU's memory; {GPU_VARIABLE}=.95 in the environment "
            "lets it take more. Nothing was autotuned: a GPU may choose other kernels."
        )
    for one in plans:
        if not one.tried:
            continue
        for tried in one.tried:
            need = tried.measured.get("memory_bytes")
            size = "" if need is None else f", {_binary(need)} a chip"
            answer = "fits" if tried.fits else "does not fit"
            if "failed" in tried.measured and need is None:
                answer = "does not compile"
            lines.append(
                f"{one.topology.name} {answer} with {' '.join(tried.overrides)}{size} "
                f"({tried.cost})"
            )
        if not any(tried.fits for tried in one.tried):
            lines.append(f"{one.topology.name}: none of these is enough; take smaller crops")
    return lines


def _answer(one: Plan) -> str:
    if one.fits:
        return "yes"
    return "no" if is_too_large(one.measured, one.topology) else "not compiled"


def _collectives(measured: dict[str, Any]) -> str:
    counts: dict[str, int] = {}
    for one in measured["collectives"]:
        counts[one["kind"]] = counts.get(one["kind"], 0) + one["count"]
    return "\n".join(f"{count} {kind}" for kind, count in counts.items()) or "none"


def _kernels(measured: dict[str, Any]) -> str:
    kinds = sorted(measured["kernels"].items(), key=lambda item: -item[1])
    return "\n".join(f"{count} {kind.strip('_')}" for kind, count in kinds) or "none"


def _range(seconds: tuple[float, float]) -> str:
    return " – ".join(map(_duration, seconds))


def _binary(size: int) -> str:
    """A size in bytes, in the unit that fits."""
    exponent = min(max((size.bit_length() - 1) // 10, 0), 4)
    return f"{size / 2 ** (10 * exponent):.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[exponent]}"


def _decimal(number: float, unit: str) -> str:
    """A number of a unit, with the prefix that fits."""
    exponent = min(max(int(math.log10(max(number, 1.0))) // 3, 0), 5)
    return f"{number / 1000**exponent:.3g} {('', 'k', 'M', 'G', 'T', 'P')[exponent]}{unit}"


def _duration(seconds: float) -> str:
    """Seconds, in the unit that fits."""
    for size, unit in ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e6 * seconds:.3g} µs"
