"""An experiment in ten lines, and its doubts: what a person checks before hours of training."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

from danet_jax.base.wording import counted
from danet_jax.configs.rules import used_multi_grid
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.tasks.doubts import Sizes, doubts
from danet_jax.training.optimizer import is_neither_norm_nor_bias, warmup_steps

# Words for the parameters that are decayed where not all are, by the last part of their names.
PARAMETERS = {
    "kernel": "kernels",
    "gamma": "attention gammas",
}


def describe_recipe(
    config: ml_collections.ConfigDict,
    params: Any,
    settings: InferenceSettings,
    *,
    num_images: int,
    total_steps: int,
    continued: bool = False,
    eval_sizes: Sizes | None = None,
    own_loss: str | None = None,
) -> list[str]:
    """Returns the ten lines of `recipe` as text, then one for each doubt.

    Args:
      config: the experiment, whose intervals are set.
      params: the network's parameters, or their shapes.
      settings: those of its evaluation.
      num_images: of the training split.
      total_steps: updates in all.
      continued: from a checkpoint.
      eval_sizes: how many evaluated images have which (height, width); None where unknown.
      own_loss: the name of a program's own loss, None for the config's.
    """
    start = "the run's newest checkpoint" if continued else _start(config.model)
    lines = recipe(
        config,
        params,
        settings,
        num_images=num_images,
        total_steps=total_steps,
        start=start,
        own_loss=own_loss,
    )
    width_of_names = max(map(len, lines))
    described = [f"{name:<{width_of_names}}  {text}" for name, text in lines.items()]
    return described + [f"warning: {doubt}" for doubt in doubts(config, settings, eval_sizes or {})]


def recipe(
    config: ml_collections.ConfigDict,
    params: Any,
    settings: InferenceSettings,
    *,
    num_images: int,
    total_steps: int,
    start: str = "",
    own_loss: str | None = None,
) -> dict[str, str]:
    """Returns ten names, each with what the config says of it.

    The arguments are those of `describe_recipe`; `start` says where the first weights came from,
    "" for what the config says.
    """
    model, data, train = config.model, config.data, config.train
    optimizer = config.optimizer
    height, width = data.crop_size
    epochs = total_steps * train.batch_size / num_images
    return {
        "Data": f"{data.name}, {counted(num_images, 'image')} of {data.train_split}, "
        f"{counted(model.num_classes, 'class', 'classes')}",
        "Network": _network(model, params),
        "Start": start or _start(model),
        "Input": f"crops of {height}×{width}; short side {_range(data)}",
        "Augmentation": ", ".join(_augmentation(data)) or "none",
        "Optimiser": f"{_rule(optimizer)}, momentum {optimizer.momentum:g}, weight decay "
        f"{optimizer.weight_decay:g} on {_decayed(config, params)}",
        "Learning rate": f"{optimizer.learning_rate:g}, head ×{optimizer.head_factor:g}, "
        + _schedule(optimizer, total_steps),
        "Length": f"{counted(total_steps, 'step')} of {train.batch_size}, {epochs:.4g} epochs"
        + (f", in {train.accumulation_steps} parts" if train.accumulation_steps > 1 else ""),
        "Loss": _loss(config, own_loss),
        "Evaluation": f"{data.eval_split} every {counted(train.eval_every, 'step')}, "
        f"{settings.describe()}",
    }


def _rule(optimizer: ml_collections.ConfigDict) -> str:
    if not optimizer.trust_coefficient:
        return "SGD"
    return f"LARS with trust coefficient {optimizer.trust_coefficient:g} on kernels"


def _schedule(optimizer: ml_collections.ConfigDict, total_steps: int) -> str:
    rising = warmup_steps(optimizer, total_steps)
    warmup = f"rising over the first {counted(rising, 'step')}, " if rising else ""
    match optimizer.schedule:
        case "poly":
            return f"{warmup}poly {optimizer.poly_power:g} to {optimizer.min_learning_rate:g}"
        case "cosine":
            return f"{warmup}cosine to {optimizer.min_learning_rate:g}"
    return f"{warmup}{optimizer.schedule}"


def _start(model: ml_collections.ConfigDict) -> str:
    if model.pretrained_backbone:
        return f"backbone from {model.pretrained_backbone}"
    return "random weights (config.model.pretrained_backbone names a file)"


def _network(model: ml_collections.ConfigDict, params: Any) -> str:
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    parts = [
        f"{_kind(model.attention)} on {model.backbone}",
        f"stride {model.output_stride}",
        f"{model.stem} stem",
    ]
    if multi_grid := used_multi_grid(model):
        parts.append(f"multi-grid {', '.join(map(str, multi_grid))}")
    if model.auxiliary_head:
        parts.append("auxiliary head")
    parts += ["aligned corners" if model.align_corners else "corners not aligned", model.dtype]
    return f"{', '.join(parts)}; {count:,} parameters"


def _decayed(config: ml_collections.ConfigDict, params: Any) -> str:
    """Names the kinds of the network's parameters that weight decay acts on."""
    if config.optimizer.decay_norm_and_bias:
        return "every parameter"
    marks = is_neither_norm_nor_bias(params)
    kinds = {path[-1].key for path, mark in jax.tree.leaves_with_path(marks) if mark}
    return " and ".join(PARAMETERS.get(kind, kind) for kind in sorted(kinds, reverse=True))


def _kind(attention: Sequence[str]) -> str:
    if not attention:
        return "dilated FCN"
    if set(attention) == {"position", "channel"}:
        return "DANet"
    if len(attention) == 1:
        return f"DANet with {attention[0]} attention alone"
    return f"DANet with {', '.join(attention)} attention"


def _range(data: ml_collections.ConfigDict) -> str:
    low, high = (int(data.base_size * scale) for scale in data.scale_range)
    return f"{low}" if low == high else f"{low} to {high}"


def _augmentation(data: ml_collections.ConfigDict) -> list[str]:
    found = [
        text
        for text, used in (
            ("mirrored", data.horizontal_flip),
            ("upside down", data.vertical_flip),
            ("turned by 90°", data.rotate_90),
            ("photometric distortion", data.photometric_distortion),
        )
        if used
    ]
    found += [
        f"{name} ±{data[name]:g}"
        for name in ("brightness", "contrast", "saturation", "hue")
        if data[name]
    ]
    if data.cat_max_ratio < 1:
        found.append(f"no class above {100 * data.cat_max_ratio:g} % of a crop")
    if data.rare_class_sampling:
        found.append(f"rare classes more often ({data.rare_class_sampling:g})")
    return found


def _loss(config: ml_collections.ConfigDict, own: str | None) -> str:
    loss, model = config.loss, config.model
    over = "labelled" if loss.normalization == "labelled" else "all"
    kinds = {"cross_entropy": f"cross-entropy, mean over {over} pixels"}
    name = f"a program's own, {own}" if own else kinds.get(loss.name, loss.name)
    if loss.added:
        name += f", + {loss.added_weight:g} {kinds.get(loss.added, loss.added)}"
    maps = {"sum": loss.fused_weight}
    if len(model.attention) > 1:
        maps |= {name: loss[f"{name}_weight"] for name in model.attention}
    if model.auxiliary_head:
        maps["auxiliary"] = loss.auxiliary_weight
    weights = ", ".join(f"{map} {weight:g}" for map, weight in maps.items())
    return f"{name}; weights: {weights}"
