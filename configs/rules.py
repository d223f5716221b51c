"""The rules of an experiment's fields: one check, which needs neither data nor devices.

No module that imports JAX is imported here, so that a config can be checked before it. Lists of
names that other modules hold, too, are compared with theirs by a test.
"""

import difflib
import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import ml_collections

from danet_jax.base.errors import UserError, check_choice
from danet_jax.base.labels import IGNORE_LABEL
from danet_jax.base.wording import counted, listed
from danet_jax.configs import common

# Backbones, and how many blocks their layer 4 has, each of which takes a dilation of multi_grid.
LAYER_4_BLOCKS = {
    "resnet10": 1,
    "resnet18": 2,
    "resnet34": 3,
    "resnet50": 3,
    "resnet101": 3,
    "resnet152": 3,
}
ATTENTIONS = ("position", "channel")
# The first losses are means over pixels, the others ratios of areas.
PIXEL_LOSSES = ("cross_entropy", "ohem", "focal")
LOSSES = (*PIXEL_LOSSES, "dice", "jaccard", "tversky")
SCHEDULES = ("poly", "cosine", "constant")
NORMALIZATIONS = ("labelled", "all")
# Settings that some of LOSSES have, in place of which a program may give its own.
_OF_A_LOSS = (
    "class_weights",
    "normalization",
    "focal_gamma",
    "ohem_threshold",
    "ohem_min_kept",
    "tversky_alpha",
    "tversky_beta",
)
_AT_LEAST_ONE = (
    "train.batch_size",
    "train.accumulation_steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "eval.batch_size",
)
_BELOW_ONE = ("train.ema_decay", "optimizer.warmup")
_SHARES = ("loss.ohem_threshold", "loss.ohem_min_kept")
_NOT_NEGATIVE = (
    "optimizer.learning_rate",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "optimizer.head_factor",
    "optimizer.poly_power",
    "optimizer.min_learning_rate",
    "optimizer.trust_coefficient",
    "train.clip_norm",
    "train.steps",
    "train.epochs",
    "loss.logit_memory",
    "loss.added_weight",
    "loss.fused_weight",
    "loss.position_weight",
    "loss.channel_weight",
    "loss.auxiliary_weight",
    "loss.focal_gamma",
    "loss.tversky_alpha",
    "loss.tversky_beta",
)
_NUMBERS = ("data.crop_size", "data.scale_range", "loss.class_weights")
STEMS = ("plain", "deep")
OUTPUT_STRIDES = (8, 16)
DTYPES = ("float32", "bfloat16")

_CHOICES: dict[str, tuple] = {
    "backbone": tuple(LAYER_4_BLOCKS),
    "output_stride": OUTPUT_STRIDES,
    "stem": STEMS,
    "position_attention": ("auto", "full", "chunked"),
    "channel_energy": ("max_minus", "plain"),
    "remat": ("auto", "none", "light", "block"),
    "conv_weight_gradient": ("auto", "native", "einsum", "space_to_batch"),
    "dtype": DTYPES,
}
# The least value of each whole number; `num_classes` also has a largest one.
_LEAST = {"width": 1, "deep_stem_width": 1, "energy_memory": 0}
_FLAGS = ("align_corners", "auxiliary_head")
FIELDS = (
    *_CHOICES,
    *_LEAST,
    *_FLAGS,
    "num_classes",
    "dropout_rate",
    "attention",
    "multi_grid",
    "pretrained_backbone",
)


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError that names the field of a value that cannot train."""
    values = {
        f"{section}.{field}": config[section][field]
        for section in ("data", "loss", "optimizer", "train", "eval")
        for field in config[section]
    }
    for field, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            raise UserError(f"config.{field} is {value}; give finite numbers.")
    for field in _AT_LEAST_ONE:
        # Fields that are left open until the training's length is known are no numbers yet.
        if values[field] is not None and values[field] < 1:
            raise UserError(f"config.{field} is {values[field]}; give 1 or more.")
    for field in _NOT_NEGATIVE:
        if values[field] < 0:
            raise UserError(f"config.{field} is {values[field]}; give 0 or more.")
    for field in _BELOW_ONE:
        if not 0 <= values[field] < 1:
            raise UserError(f"config.{field} is {values[field]}; give 0 to below 1.")
    for field in _SHARES:
        if not 0 <= values[field] <= 1:
            raise UserError(f"config.{field} is {values[field]}; give a share, 0 to 1.")
    for field in _NUMBERS:
        if not all(isinstance(value, int | float) for value in values[field] or ()):
            raise UserError(f"config.{field} is {values[field]}; give numbers.")
    if not 0 <= config.seed < 2**32:
        raise UserError(f"config.seed is {config.seed}; give 0 to {2**32 - 1}.")
    if len(config.data.crop_size) != 2:
        raise UserError(f"config.data.crop_size is {config.data.crop_size}; give (height, width).")

    if not all(_is_whole(side) and side > 0 for side in config.data.crop_size):
        raise UserError(
            f"config.data.crop_size is {config.data.crop_size}; give whole numbers above 0."
        )
    optimizer = config.optimizer
    check_choice("config.optimizer.schedule", optimizer.schedule, SCHEDULES)
    if optimizer.schedule == "constant" and optimizer.min_learning_rate:
        raise UserError(
            f"config.optimizer.min_learning_rate is {optimizer.min_learning_rate}, to which a rate "
            "with the schedule 'constant' never falls: give 0, or another schedule."
        )
    if optimizer.min_learning_rate > optimizer.learning_rate:
        raise UserError(
            f"config.optimizer.min_learning_rate is {optimizer.min_learning_rate}, above the "
            f"config.optimizer.learning_rate of {optimizer.learning_rate}, from which it falls."
        )

    model = config.model.copy_and_resolve_references()
    if model.num_classes is None:
        # It is left open until the data set says how many there are.
        model.num_classes = len(config.loss.class_weights) or 1
    check_model(model)
    check_loss(config.loss, model.num_classes)
    _check_map_weights(config)
    batch_size, parts = config.train.batch_size, config.train.accumulation_steps
    if batch_size % parts:
        raise UserError(
            f"config.train.batch_size {batch_size} does not divide into "
            f"config.train.accumulation_steps {parts}."
        )


def check_overrides(config: ml_collections.ConfigDict, overrides: Sequence[str]) -> None:
    """Raises a UserError for "--config.train.epochs=VALUE" where the number of steps is given."""
    for override in overrides:
        given = override.startswith("--config.train.epochs=") and config.train.epochs
        if given and config.train.steps:
            raise UserError(
                f"{override}: config.train.steps is {config.train.steps}, and that counts. Give "
                "--config.train.steps=0 besides, or the number of steps."
            )


def settle_num_classes(config: ml_collections.ConfigDict, num_classes: int) -> None:
    """Sets the number of classes to a data set's where it is open; a UserError where it differs."""
    if config.model.num_classes is None:
        config.model.num_classes = num_classes
        check_loss(config.loss, num_classes)
    if config.model.num_classes != num_classes:
        raise UserError(
            f"config.model.num_classes is {config.model.num_classes}, but {config.data.name} has "
            f"{counted(num_classes, 'class', 'classes')}: a new run wants "
            f"--config.model.num_classes={num_classes} (folder takes the data set's own where "
            "classes= is left out); an old one the data set as it was."
        )


def check_loss(loss_config: ml_collections.ConfigDict, num_classes: int) -> None:
    """Raises a UserError for a loss that does not exist, and class weights that do not fit it."""
    for field in ("name", "added"):
        allowed = LOSSES if field == "name" else ("", *LOSSES)
        check_choice(f"config.loss.{field}", loss_config[field], allowed)
    check_choice("config.loss.normalization", loss_config.normalization, NORMALIZATIONS)
    if loss_config.class_weights and len(loss_config.class_weights) != num_classes:
        raise UserError(
            f"config.loss.class_weights has {len(loss_config.class_weights)} values for "
            f"{counted(num_classes, 'class', 'classes')}: give one for each class, or () for equal "
            "ones."
        )
    if min(loss_config.class_weights, default=0) < 0 or not any(loss_config.class_weights or (1,)):
        raise UserError(
            f"config.loss.class_weights is {loss_config.class_weights}; give 0 or more, and at "
            "least one above 0."
        )
    used = {loss_config.name, loss_config.added}
    if loss_config.added and not loss_config.added_weight:
        raise UserError(
            f"config.loss.added is {loss_config.added!r}, but config.loss.added_weight is 0: give "
            "a weight above 0, or no added loss."
        )
    if "tversky" in used and not loss_config.tversky_alpha + loss_config.tversky_beta:
        raise UserError(
            "config.loss.tversky_alpha and config.loss.tversky_beta are both 0, so that no mistake "
            "counts: give at least one above 0."
        )
    if loss_config.normalization == "all" and "cross_entropy" not in used:
        raise UserError(
            f"config.loss.normalization is 'all', which only cross_entropy knows, and "
            f"config.loss.name is {loss_config.name!r}: give 'labelled'."
        )
    if loss_config.class_weights and not used & {*PIXEL_LOSSES}:
        raise UserError(
            f"config.loss.class_weights weigh the pixels of {', '.join(PIXEL_LOSSES)}, and "
            f"config.loss.name {loss_config.name!r} counts areas: leave them out, or set "
            "config.loss.added."
        )


def check_beside_own_loss(loss_config: ml_collections.ConfigDict) -> None:
    """Raises a UserError for settings of a loss that a program's own one takes the place of.

    They still hold for config.loss.added where that is set.
    """
    if loss_config.added:
        return
    defaults = common.get_config().loss
    for field in _OF_A_LOSS:
        if loss_config[field] != defaults[field]:
            raise UserError(
                f"config.loss.{field} is {loss_config[field]!r}, and the loss is a program's own "
                f"(loss=), which does not read it: leave it at {defaults[field]!r}, and give the "
                "function what it needs, as by functools.partial."
            )


def _check_map_weights(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError where no map that the network has counts in the loss."""
    weights = {"fused": config.loss.fused_weight}
    if len(config.model.attention) > 1:
        weights |= {name: config.loss[f"{name}_weight"] for name in config.model.attention}
    if config.model.auxiliary_head:
        weights["auxiliary"] = config.loss.auxiliary_weight
    if not any(weights.values()):
        fields = listed(f"config.loss.{name}_weight" for name in weights)
        raise UserError(f"{fields}: all are 0, so that nothing is learnt; give one above 0.")


def check_model(model_config: ml_collections.ConfigDict) -> None:
    """Raises a UserError that names the field where one is missing, unknown, or of a wrong value.

    The type counts, too: 8.0 is no output stride, True is no number, and "position" is no tuple of
    names.
    """
    _check_names(model_config)
    for field, allowed in _CHOICES.items():
        value = model_config[field]
        check_choice(f"config.model.{field}", value, allowed)
        if isinstance(value, float):
            raise UserError(f"config.model.{field} is {value!r}; give {value:g} as a whole number.")
    classes = model_config["num_classes"]
    if not _is_whole(classes) or not 1 <= classes < IGNORE_LABEL + 1:
        raise UserError(
            f"config.model.num_classes is {classes!r}; give a whole number from 1 to "
            f"{IGNORE_LABEL}: labels are stored in 8 bits, and {IGNORE_LABEL} marks ignored pixels."
        )
    for field, least in _LEAST.items():
        value = model_config[field]
        if not _is_whole(value) or value < least:
            more = " MiB; 0 is the platform's default" if field == "energy_memory" else ""
            raise UserError(
                f"config.model.{field} is {value!r}; give a whole number, {least} or more{more}."
            )
    for field in _FLAGS:
        if not isinstance(model_config[field], bool):
            raise UserError(f"config.model.{field} is {model_config[field]!r}; give True or False.")
    rate = model_config["dropout_rate"]
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate < 1:
        raise UserError(f"config.model.dropout_rate is {rate!r}; give a number, 0 to below 1.")
    if not isinstance(model_config["pretrained_backbone"], str):
        raise UserError(
            f"config.model.pretrained_backbone is {model_config['pretrained_backbone']!r}; give "
            'the name of a file as text, or "" for none.'
        )
    _check_attention(model_config["attention"])
    # The value None leaves it open.
    if model_config["multi_grid"] is not None:
        _check_multi_grid(model_config["multi_grid"], model_config["backbone"])


def used_multi_grid(model_config: ml_collections.ConfigDict) -> tuple[int, ...]:
    """Returns the dilations that layer 4 takes of config.model.multi_grid: one for each block."""
    return tuple(model_config.multi_grid or ())[: LAYER_4_BLOCKS[model_config.backbone]]


def _check_names(model_config: ml_collections.ConfigDict) -> None:
    missing = [f"config.model.{field}" for field in FIELDS if field not in model_config]
    if missing:
        raise UserError(
            f"There is no {listed(missing)}: begin with get_config().model of configs/common.py, "
            "which holds every field."
        )
    for field in model_config:
        if field not in FIELDS:
            near = difflib.get_close_matches(str(field), FIELDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(
                f"config.model has no field {field!r}; it has {', '.join(FIELDS)}.{hint}"
            )


def _check_attention(value: Any) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UserError(
            f"config.model.attention is {value!r}; give a tuple of names, such as "
            '("position", "channel"), ("position",) or ().'
        )
    for name in value:
        check_choice("config.model.attention", name, ATTENTIONS)


def _check_multi_grid(value: Any, backbone: str) -> None:
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_sequence or not all(_is_whole(dilation) and dilation > 0 for dilation in value):
        raise UserError(
            f"config.model.multi_grid is {value!r}; give a tuple of whole numbers above 0, such as "
            "(4, 8, 16), or () for none."
        )
    blocks = LAYER_4_BLOCKS[backbone]
    if 0 < len(value) < blocks:
        raise UserError(
            f"config.model.multi_grid has {counted(len(value), 'dilation')}, but layer 4 of "
            f"{backbone} has {blocks} blocks: give one for each, or () for none."
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
