"""What can be measured of a config: cases, and the participants in each."""

from typing import Any, NamedTuple

import ml_collections

from benchmarks import networks
from danet_jax.base.errors import UserError
from danet_jax.models.resnet import EXPANSION, RESNETS
from danet_jax.ops.implementation import WEIGHT_GRADIENTS


class Participant(NamedTuple):
    """A framework that computes, and the variant of its program."""

    name: str
    framework: str
    variant: str


class Group(NamedTuple):
    """Cases that are measured one after the other by the same processes."""

    participants: tuple[Participant, ...]
    cases: tuple[dict[str, Any], ...]
    # One process for each framework, where memory is not measured; else one for each participant.
    shared: bool = False


_JAX_VARIANTS = {
    "train": ("",),
    "infer": ("",),
    "attention": ("full", "chunked"),
    "conv": ("auto", *WEIGHT_GRADIENTS),
    "loss": ("blocks", "plain"),
    "input": ("threads", "workers"),
}
_PEER_VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "torch": {
        "train": ("eager",),
        "infer": ("eager",),
        "attention": ("plain", "sdpa"),
        "conv": ("",),
        "loss": ("",),
        "input": ("DataLoader",),
    },
    "torch-compile": {"train": ("compiled",), "infer": ("compiled",)},
    "mmseg": {"train": ("mmsegmentation",), "infer": ("mmsegmentation",)},
}


def groups(
    config: ml_collections.ConfigDict,
    what: str,
    peers: tuple[str, ...],
    *,
    sizes: tuple[tuple[int, int], ...],
    batch: int,
    passes: tuple[str, ...] = ("forward", "gradient"),
) -> list[Group]:
    """Returns what is to be measured, in the order of the table.

    Args:
      config: the experiment.
      what: one of `arguments.MEASURED`.
      peers: some of `arguments.PEERS`.
      sizes: height and width of images.
      batch: images at a time.
      passes: some of `arguments.PASSES`, for attention alone.

    Raises:
      UserError: a peer that does not compute this, or has no such network.
    """
    participants = [
        Participant(_named("danet-jax", variant), "danet-jax", variant)
        for variant in _JAX_VARIANTS[what]
    ]
    for peer in peers:
        if what not in _PEER_VARIANTS[peer]:
            raise UserError(
                f"--peer={peer} has no part in --what={what}; it takes part in "
                f"{' and '.join(_PEER_VARIANTS[peer])}."
            )
        if what in ("train", "loss"):
            _check_plain(config)
        if peer == "mmseg":
            _check_mmsegmentation(config)
        participants += [
            Participant(_peer_name(variant), "torch", variant)
            for variant in _PEER_VARIANTS[peer][what]
        ]
    made = []
    for size in sizes:
        case: dict[str, Any]
        case = {"size": size, "batch": batch, "name": f"{size[0]}×{size[1]}, batch {batch}"}
        if what == "conv":
            convolutions = [case | conv for conv in networks.convolutions(config, case)]
            convolutions = [conv | _described(conv) for conv in convolutions]
            made.append(Group(tuple(participants), tuple(convolutions), shared=True))
        elif what == "attention":
            for one_pass in passes:
                attention = case | _attention(config, case) | {"gradient": one_pass == "gradient"}
                attention["operations"] *= 3 if attention["gradient"] else 1
                name = f"{attention['positions']} positions, batch {batch}, {one_pass}"
                made.append(Group(tuple(participants), (attention | {"name": name},)))
        else:
            if what == "input":
                case["name"] = f"a batch of {batch} crops of {size[0]}×{size[1]}"
            if what in ("train", "infer"):
                case["operations"] = networks.operations(config, case, train=what == "train")
            made.append(Group(tuple(participants), (case,)))
    return made


def _attention(config: ml_collections.ConfigDict, case: dict[str, Any]) -> dict[str, Any]:
    stride = config.model.output_stride
    height, width = (-(-side // stride) for side in case["size"])
    bottleneck, _ = RESNETS[config.model.backbone]
    channels = 8 * config.model.width * (EXPANSION if bottleneck else 1) // 4
    operations = 2.0 * case["batch"] * (height * width) ** 2 * (channels // 8 + channels)
    return {"positions": height * width, "channels": channels, "operations": operations}


def _described(conv: dict[str, Any]) -> dict[str, Any]:
    height, width = conv["map"]
    text = (
        f"{conv['kernel']}×{conv['kernel']}, {conv['inputs']}→{conv['outputs']}, {height}×{width}"
    )
    text += f", stride {conv['stride']}" if conv["stride"] > 1 else ""
    text += f", dilation {conv['dilation']}" if conv["dilation"] > 1 else ""
    outputs = conv["batch"] * -(-height // conv["stride"]) * -(-width // conv["stride"])
    operations = 2.0 * conv["kernel"] ** 2 * conv["inputs"] * conv["outputs"] * outputs
    return {"name": f"{text} ({conv['times']} times)", "operations": operations}


def _named(name: str, variant: str) -> str:
    return f"{name}, {variant}" if variant else name


def _peer_name(variant: str) -> str:
    names = {"": "PyTorch", "eager": "PyTorch", "sdpa": "PyTorch, SDPA"}
    names |= {"mmsegmentation": "mmsegmentation"}
    return names.get(variant, f"PyTorch, {variant}")


def _check_plain(config: ml_collections.ConfigDict) -> None:
    wanted = {
        "train.accumulation_steps": 1,
        "train.ema_decay": 0,
        "train.clip_norm": 0,
        "loss.name": "cross_entropy",
        "loss.added": "",
        "loss.class_weights": (),
    }
    for name, value in wanted.items():
        section, field = name.split(".")
        if config[section][field] != value:
            raise UserError(
                "--peer: PyTorch trains here with plain cross-entropy and without accumulation, "
                f"averaging or clipping, but config.{name} is {config[section][field]!r}. Give "
                f"--config.{name}={value}."
            )


def _check_mmsegmentation(config: ml_collections.ConfigDict) -> None:
    model = config.model
    wanted = {
        "stem": "deep",
        "deep_stem_width": 32,
        "multi_grid": (),
        "output_stride": 8,
        "auxiliary_head": True,
        "align_corners": False,
        "attention": ("position", "channel"),
        "width": 64,
    }
    differing = [f"config.model.{f}={model[f]}" for f, v in wanted.items() if model[f] != v]
    if not RESNETS[model.backbone][0]:
        differing.append(f"config.model.backbone={model.backbone}")
    if differing:
        raise UserError(
            "--peer=mmseg: mmsegmentation's DANet is another network than this config's "
            f"({', '.join(differing)}). Choose its recipe, for example "
            "--config=configs/cityscapes.py:recipe=mmseg."
        )
