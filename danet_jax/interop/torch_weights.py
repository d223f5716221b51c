"""Converts a network's variables from PyTorch's arrays and back; no array is skipped silently."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from danet_jax.base.errors import UserError
from danet_jax.base.texts import one_line
from danet_jax.base.wording import listed
from danet_jax.interop.torch_arrays import (
    describe_value,
    shape_of,
    their_shape,
    to_float,
    to_ours,
    to_theirs,
)
from danet_jax.interop.torch_files import checksum, read_state_dict
from danet_jax.interop.torch_names import NAMINGS, ORIGINAL, Naming
from danet_jax.models.danet import ATTENTIONS, BACKBONE, DANet
from danet_jax.models.resnet import RESNETS
from danet_jax.network import Variables, abstract_variables

StateDict = Mapping[str, Any]
_COLLECTIONS = ("params", "batch_stats")
# Counters that PyTorch saves with the weights, of a batch norm and of a moving average.
_COUNTERS = ("num_batches_tracked", "n_averaged")
# Prefixes by wrappers of a network: DataParallel and AveragedModel, torch.compile, a Lightning
# module. They may be nested, and the first two may wrap a part of a network.
_WRAPPERS = re.compile(r"^(?:model\.|module\.|_orig_mod\.)+|(?<=\.)(?:module\.|_orig_mod\.)+")
# A checkpoint may hold the weights, two moments of an optimiser and a moving average, in 64 bits.
_LARGEST_FACTOR = 4 * 2
# It may also hold what has nothing to do with the size of the network, such as a log.
_ALWAYS_READ = 256 << 20
_CLASSIFIER = re.compile(r"classifier\.conv\.(kernel|bias)$")


@dataclasses.dataclass(frozen=True)
class Weights:
    """Variables that came from a state dict, and what did not come from it."""

    variables: Variables
    # The family of the names that they had, such as "the original's".
    naming: str
    # The number of arrays that were converted.
    count: int
    # The classifier arrays that had another number of classes and keep their initial values.
    reinitialized: tuple[str, ...] = ()
    # Messages about everything else that does not fit, where that was allowed.
    skipped: tuple[str, ...] = ()


def read_checkpoint(path: Path | str, model: DANet) -> StateDict:
    """Returns a file's state dict as `read_state_dict` does; a UserError where it is too large to
    be of a network like the model."""
    network = sum(4 * math.prod(shape) for shape in _shapes(model).values())
    return read_state_dict(path, largest=_ALWAYS_READ + _LARGEST_FACTOR * network)


def from_torch(state_dict: StateDict, model: DANet) -> Variables:
    """Returns a model's variables from a PyTorch state dict.

    Args:
      state_dict: name → array or tensor, in the names of the original DANet (tag v0.5.0 or HEAD),
        of mmsegmentation, or of torchvision's or timm's ResNets; before them may stand "module.",
        "_orig_mod." (torch.compile) or "model." (Lightning).
      model: a network of the same architecture.

    Returns:
      {"params": …, "batch_stats": …}, all of the model's; from a ResNet only its "backbone" parts.

    Raises:
      UserError: lists every array that is missing, left over, of another shape or not finite.
    """
    return convert(state_dict, model).variables


def to_torch(variables: Variables, model: DANet) -> dict[str, np.ndarray]:
    """Returns variables as a PyTorch state dict: the inverse of `from_torch`.

    The names are the original's; arrays are float32 in PyTorch's layout. `num_batches_tracked`,
    which no computation reads, is left out, as PyTorch allows. Raises UserError on variables of
    another model.
    """
    wanted = _shapes(model)
    arrays = _flat(variables)
    differing = sorted(
        name
        for name in wanted.keys() | arrays.keys()
        if name not in wanted or name not in arrays or arrays[name].shape != wanted[name]
    )
    if differing:
        raise UserError(f"the variables are not the model's: {', '.join(differing)}")
    names = ORIGINAL.names(arrays)
    return {names[name]: to_theirs(name, np.asarray(array)) for name, array in arrays.items()}


def convert(
    state_dict: StateDict,
    model: DANet,
    *,
    initial: Callable[[], Variables] | None = None,
    allow_partial: bool = False,
) -> Weights:
    """Converts as `from_torch` does, also for another number of classes or for parts of a model.

    Args:
      state_dict: as for `from_torch`.
      model: what the weights are for.
      initial: makes the variables that stand where the state dict has none: in classifiers of
        another number of classes, and, with `allow_partial`, wherever something does not fit.
      allow_partial: list what does not fit instead of refusing it.

    Raises:
      UserError: as `from_torch`.
    """
    theirs, naming = _theirs(state_dict, model)
    wanted = _shapes(model)
    if naming.heads:
        return _convert(theirs, naming, wanted, model, initial, allow_partial)
    if initial is None:
        wanted = _backbone(wanted)
    elif not allow_partial:
        raise UserError(
            f"the checkpoint holds a backbone alone ({naming.title} names), which predicts "
            "nothing: train with it, --config.model.pretrained_backbone=FILE"
        )
    return _convert(theirs, naming, wanted, model, initial, allow_partial)


def backbone_from_torch(state_dict: StateDict, model: DANet) -> Weights:
    """Returns the "backbone" parts of a model's variables, whatever head the state dict has."""
    theirs, naming = _theirs(state_dict, model)
    theirs = {name: a for name, a in theirs.items() if name.startswith(naming.backbone)}
    return _convert(theirs, naming, _backbone(_shapes(model)), model, None, False)


def describe(weights: Weights, file: Path | str, *, part: str = "network") -> dict[str, Any]:
    """Returns where weights came from, for a run's record."""
    return {
        "file": str(file),
        "sha256": checksum(file),
        "part": part,
        "names": weights.naming,
        "arrays": weights.count,
        "reinitialized": list(weights.reinitialized),
        "skipped": list(weights.skipped),
    }


def _convert(
    theirs: dict[str, Any],
    naming: Naming,
    wanted: dict[str, tuple[int, ...]],
    model: DANet,
    initial: Callable[[], Variables] | None,
    allow_partial: bool,
) -> Weights:
    names = naming.names(wanted)
    converted: dict[str, jax.Array] = {}
    problems: list[str] = []
    reinitialized: list[str] = []
    for name, shape in wanted.items():
        their_name = names.get(name)
        if their_name not in theirs:
            problems.append(f"missing: {their_name or name} {their_shape(name, shape)}")
            continue
        value = theirs[their_name]
        # The shape is checked first: a few bytes can stand for terabytes of one repeated number.
        theirs_shape = shape_of(value)
        if theirs_shape is None:
            problems.append(f"no numbers: {their_name} is {describe_value(value)}")
            continue
        if theirs_shape != their_shape(name, shape) and not (
            name.endswith("gamma") and math.prod(theirs_shape) == 1
        ):
            if initial is not None and _differs_in_classes(name, theirs_shape, shape):
                reinitialized.append(name)
                continue
            problems.append(
                f"another shape: {their_name} is {one_line(theirs_shape)}, the model's is "
                f"{their_shape(name, shape)}"
            )
            continue
        array = to_float(value)
        if array is None:
            problems.append(f"no numbers: {their_name} is {describe_value(value)}")
        elif not np.isfinite(array).all():
            problems.append(f"not finite: {their_name}")
        elif name.endswith(".var") and array.min() < 0:
            problems.append(f"a negative variance: {their_name}")
        else:
            converted[name] = to_ours(name, array)
    used = set(names.values())
    problems += [f"left over: {name}" for name in theirs if name not in used]
    if problems and not (allow_partial and initial is not None and converted):
        raise UserError(
            f"the checkpoint ({naming.title} names) does not fit the model, in "
            f"{len(problems)} arrays.{_hint(theirs, naming, model)}\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    base = {} if initial is None or len(converted) == len(wanted) else _flat(initial())
    return Weights(
        variables=_nested(
            {name: converted[name] if name in converted else base[name] for name in wanted}
        ),
        naming=naming.title,
        count=len(converted),
        reinitialized=tuple(reinitialized),
        skipped=tuple(problems),
    )


def _theirs(state_dict: StateDict, model: DANet) -> tuple[dict[str, Any], Naming]:
    """The arrays of the network, without prefixes, and the naming that most of them have."""
    arrays = {_WRAPPERS.sub("", name): array for name, array in state_dict.items()}
    if len(arrays) < len(state_dict):
        names: set[str] = set()
        twice = [
            bare
            for name in state_dict
            if (bare := _WRAPPERS.sub("", name)) in names or names.add(bare)  # type: ignore[func-returns-value]
        ]
        raise UserError(
            f'the checkpoint holds {listed(twice, shown=1)} both with and without "module.", '
            '"_orig_mod." or "model." before it: save one network\'s state_dict alone.'
        )
    arrays = {name: a for name, a in arrays.items() if not name.endswith(_COUNTERS)}
    ours = _shapes(model)
    hits = [len(set(naming.names(ours).values()) & arrays.keys()) for naming in NAMINGS]
    best = int(np.argmax(hits))
    if not hits[best]:
        some = ", ".join([*list(arrays)[:4], *(["…"] if len(arrays) > 4 else [])]) or "none"
        raise UserError(
            "the checkpoint has no array under a name of the original DANet, mmsegmentation's "
            f"DANet or torchvision's ResNet. Its names are: {some}"
        )
    naming = NAMINGS[best]
    return {n: a for n, a in arrays.items() if not n.startswith(naming.unused)}, naming


def _backbone(shapes: dict[str, Any]) -> dict[str, Any]:
    return {name: shape for name, shape in shapes.items() if name.startswith(f"{BACKBONE}.")}


def _hint(theirs: dict[str, Any], naming: Naming, model: DANet) -> str:
    """Names the fields of the config to change, where the checkpoint's names show them."""
    prefix = naming.backbone
    if any(f"{prefix}layer{n}.0.downsample.2.weight" in theirs for n in (1, 2)):
        return " Its shortcuts average before they convolve (v1d, resnet50d); no network here does."

    fields: dict[str, Any] = {}
    blocks = tuple(
        len({m.group(1) for name in theirs if (m := re.match(pattern, name))})
        for pattern in (rf"{re.escape(prefix)}layer{n}\.(\d+)\." for n in (1, 2, 3, 4))
    )
    bottleneck = any(re.match(rf"{re.escape(prefix)}layer\d\.\d+\.conv3\.", n) for n in theirs)
    for name, architecture in RESNETS.items():
        if architecture == (bottleneck, blocks):
            fields["backbone"] = name
    stem = [n for n in theirs if n.startswith((f"{prefix}conv1.", f"{prefix}stem."))]
    fields["stem"] = "plain" if stem == [f"{prefix}conv1.weight"] else "deep"
    heads = [n for n in theirs if not n.startswith(prefix)] if prefix else []
    if heads:
        auxiliary = ("auxiliary_head.", "auxlayer.")
        fields["auxiliary_head"] = any(name.startswith(auxiliary) for name in heads)
        fields["attention"] = tuple(
            name
            for name in ATTENTIONS
            if f"{naming.heads.get(f'head.{name}_out.conv')}.weight" in theirs
        )
    stem_norm = theirs.get(f"{prefix}layer1.0.bn1.weight")
    if stem_norm is not None and len(stem_norm.shape) == 1:
        fields["width"] = stem_norm.shape[0]
    differing = [
        f"config.model.{field}={value}"
        for field, value in fields.items()
        if getattr(model, field) != value
    ]
    return f" Its names are those of a model with {', '.join(differing)}." if differing else ""


def _differs_in_classes(name: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    wanted = their_shape(name, ours)
    return bool(_CLASSIFIER.search(name)) and theirs[1:] == wanted[1:] and len(theirs) > 0


# --- trees and names -----------------------------------------------------------------------------


def _shapes(model: DANet) -> dict[str, tuple[int, ...]]:
    tree = abstract_variables(model)
    return {name: leaf.shape for name, leaf in _flat(tree).items()}


def _flat(variables: Variables) -> dict[str, Any]:
    """Leaves by their path without the collection; no path is in both of them."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for collection in _COLLECTIONS
        for path, leaf in jax.tree.leaves_with_path(variables.get(collection, {}))
    }


def _nested(arrays: dict[str, Any]) -> Variables:
    tree: dict[str, Any] = {collection: {} for collection in _COLLECTIONS}
    for name, array in arrays.items():
        *modules, leaf = name.split(".")
        subtree = tree["batch_stats" if leaf in ("mean", "var") else "params"]
        for module in modules:
            subtree = subtree.setdefault(module, {})
        subtree[leaf] = array
    return tree
