"""What each field of `config.model` may be: one check, whoever made the config."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import ml_collections

from danet_base.errors import UserError, check_choice
from danet_base.labels import IGNORE_LABEL
from danet_base.wording import counted, listed
from danet_jax.models.attention import CHANNEL_ENERGIES
from danet_jax.models.danet import ATTENTIONS
from danet_jax.models.resnet import RESNETS
from danet_jax.ops.implementation import RECOMPUTATIONS, WEIGHT_GRADIENTS
from danet_jax.platform import POSITION_FORMS

STEMS = ("plain", "deep")
OUTPUT_STRIDES = (8, 16)
DTYPES = ("float32", "bfloat16")

_CHOICES: dict[str, tuple] = {
    "backbone": tuple(RESNETS),
    "output_stride": OUTPUT_STRIDES,
    "stem": STEMS,
    "position_attention": POSITION_FORMS,
    "channel_energy": CHANNEL_ENERGIES,
    "remat": ("auto", *RECOMPUTATIONS),
    "conv_weight_gradient": ("auto", *WEIGHT_GRADIENTS),
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


def check_model_config(model_config: ml_collections.ConfigDict) -> None:
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
    # None is left open.
    if model_config["multi_grid"] is not None:
        _check_multi_grid(model_config["multi_grid"], model_config["backbone"])


def _check_names(model_config: ml_collections.ConfigDict) -> None:
    missing = [f"config.model.{field}" for field in FIELDS if field not in model_config]
    if missing:
        raise UserError(
            f"There is no {listed(missing)}: begin with get_config().model of configs/common.py, "
            "which holds every field."
        )
    for field in model_config:
        if field not in FIELDS:
            raise UserError(f"config.model has no field {field!r}; it has {', '.join(FIELDS)}.")


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
    blocks = RESNETS[backbone][1][3]
    if 0 < len(value) < blocks:
        raise UserError(
            f"config.model.multi_grid has {counted(len(value), 'dilation')}, but layer 4 of "
            f"{backbone} has {blocks} blocks: give one for each, or () for none."
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
