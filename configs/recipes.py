"""The recipes that published numbers came from, for any data set, and their arguments.

A config's argument is a list such as `recipe=mmseg,backbone=resnet50,crop=512x1024,batch=16`;
ARGUMENTS says what each means.

Evaluation is the recipe's, too: windows and mirror images as in danet/test.py of v0.5.0, or whole
images as in mmsegmentation, whose short side is 512 (1024 for Cityscapes).
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

import ml_collections

from danet_jax.configs import common

ATTENTION = {
    "both": ("position", "channel"),
    "position": ("position",),
    "channel": ("channel",),
    "none": (),
}
BACKBONES = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
DEFAULT_BACKBONE = "resnet101"
LOCAL_BASE_SIZE = 240
# Images whose sides are smaller than this are evaluated at their own size.
MAX_LOCAL_SIDE = 480
# The original trains networks with one attention, or none, for so many epochs.
ABLATION_EPOCHS = 180
# Goyal et al. 2017 scale the learning rate with the batch, and let it rise over so many epochs.
LARGE_BATCH, WARMUP_EPOCHS = 64, 5


@dataclasses.dataclass(frozen=True)
class Argument:
    """A word that an experiment's file takes: KEY=VALUE, or a flag that stands alone."""

    meaning: str
    default: str = ""
    is_flag: bool = False


ARGUMENTS = {
    "recipe": Argument(
        "original (v0.5.0 of the authors' code, default), mmseg (mmsegmentation 1.2), or "
        "large_batch: original for many chips, at batch 64 with a warm-up of 5 epochs",
        "original",
    ),
    "backbone": Argument(f"{', '.join(BACKBONES)}; {DEFAULT_BACKBONE} where it is left out"),
    "attention": Argument(
        "both (default), position, channel or none: the paper's ablation, at its 180 epochs and "
        "the rate for one loss; beside them both wants --config.train.epochs=180",
        "both",
    ),
    "crop": Argument("of training, SIDE or HEIGHTxWIDTH in pixels"),
    "batch": Argument("examples per update; the learning rate follows in proportion"),
    "runlocal": Argument(
        "a narrow ResNet-18 on crops of 128x128, batches of 8, from random weights, validated on "
        "some small images: minutes on a laptop",
        is_flag=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The settings of a recipe that differ between data sets.

    Attributes:
      learning_rate: at `batch_size`, to which it is proportional.
      crop: (height, width) of a training example.
      base_size: short side at scale 1.
      epochs: length of training; or `steps`.
      rate_of_one_loss: the learning rate where there is one map of logits, 0 for the same.
    """

    learning_rate: float
    batch_size: int
    crop: tuple[int, int]
    base_size: int
    epochs: int = 0
    steps: int = 0
    rate_of_one_loss: float = 0.0


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What the recipes need to know about a data set."""

    name: str
    # None where the prepared data set tells.
    num_classes: int | None
    original: Schedule
    mmseg: Schedule
    # How the recipe of the original evaluates: "test" by windows and mirror images, as
    # danet/test.py of v0.5.0 does with the options of training; a `config.eval.preset`; or "whole",
    # as mmsegmentation does, if nothing was published.
    evaluation: str = "test"
    # The (height, width) of all images, which are then evaluated at their own size; None if sizes
    # differ.
    image_size: tuple[int, int] | None = None
    # The split that `runlocal` validates on.
    local_split: str = "val[:50]"


def parse(argument: str, known: Mapping[str, Argument] = ARGUMENTS) -> dict[str, str]:
    """Returns "KEY=VALUE,FLAG,…" as a dict, on top of the defaults; a flag's value is "1".

    Raises:
      ValueError: an argument that is not known, or given twice.
    """
    given: dict[str, str] = {}
    for part in filter(None, argument.split(",")):
        key, sign, value = (text.strip() for text in part.partition("="))
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"argument {key!r} is not known. {hint}There are {', '.join(known)}")
        if key in given:
            raise ValueError(f"argument {key!r} is given twice")
        is_flag = known[key].is_flag
        if bool(sign) == is_flag or (sign and not value):
            form = key if is_flag else f"{key}=VALUE"
            raise ValueError(f"argument {part!r}: write {form}")
        given[key] = value or "1"
    return {name: argument.default for name, argument in known.items()} | given


def create(data_set: DataSet, arguments: Mapping[str, str]) -> ml_collections.ConfigDict:
    """Returns the experiment of a data set, a recipe and the other arguments of `parse`.

    Raises:
      ValueError: a value that an argument does not take.
    """
    recipe = choose(arguments, "recipe", ("original", "mmseg", "large_batch"))
    length = data_set.mmseg if recipe == "mmseg" else data_set.original
    if recipe != "mmseg" and arguments["attention"] != "both":
        length = dataclasses.replace(
            length,
            learning_rate=length.rate_of_one_loss or length.learning_rate,
            epochs=min(length.epochs, ABLATION_EPOCHS),
        )
    crop = crop_of(arguments, length.crop)
    batch_size = LARGE_BATCH if recipe == "large_batch" else length.batch_size
    if arguments["batch"]:
        batch_size = positive("batch", arguments["batch"])

    config = common.get_config()
    config.model.num_classes = data_set.num_classes
    if arguments["backbone"]:
        config.model.backbone = choose(arguments, "backbone", BACKBONES)
    else:
        config.model.backbone = DEFAULT_BACKBONE
    config.model.attention = ATTENTION[choose(arguments, "attention", tuple(ATTENTION))]
    config.data.name = data_set.name
    config.data.crop_size = crop
    config.data.base_size = length.base_size
    config.train.batch_size = batch_size
    config.train.epochs = length.epochs
    config.train.steps = length.steps
    config.optimizer.learning_rate = length.learning_rate / length.batch_size * batch_size
    if recipe == "mmseg":
        _mmsegmentation(config)
    if recipe == "large_batch":
        # Goyal et al. 2017 decay no scale and bias of a batch norm either.
        config.optimizer.warmup = WARMUP_EPOCHS / length.epochs
        config.optimizer.decay_norm_and_bias = False
    _evaluate(config, data_set, recipe)
    if arguments["runlocal"]:
        _run_locally(config, data_set, arguments)
    return config


def _mmsegmentation(config: ml_collections.ConfigDict) -> None:
    """configs/_base_/{models/danet_r50-d8,schedules/schedule_80k} of mmsegmentation 1.2."""
    config.model.multi_grid = ()
    config.model.stem = "deep"
    config.model.deep_stem_width = 32
    config.model.auxiliary_head = True
    # Only crops of 769x769 are resized with aligned corners in mmsegmentation.
    config.model.align_corners = config.data.crop_size == (769, 769)
    config.data.scale_range = (0.5, 2.0)
    config.data.cat_max_ratio = 0.75
    config.data.photometric_distortion = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.head_factor = 1.0
    config.optimizer.min_learning_rate = 1e-4
    config.loss.auxiliary_weight = 0.4
    config.loss.normalization = "all"


def _evaluate(config: ml_collections.ConfigDict, data_set: DataSet, recipe: str) -> None:
    """Sets how images are evaluated: as the recipe's authors do, or at the size of training."""
    evaluation = config.eval
    if recipe == "mmseg" and config.data.crop_size == (769, 769):
        evaluation.mode = "slide"
    if recipe != "mmseg" and data_set.evaluation == "test":
        # The options --base-size and --crop-size of the original apply to both: the short side at
        # scale 1 in training is the long side in the test.
        evaluation.update(mode="slide", flip=True, merge="original")
        evaluation.base_size = config.data.base_size
    elif recipe != "mmseg" and data_set.evaluation != "whole":
        evaluation.preset = data_set.evaluation
    if data_set.image_size is not None:
        evaluation.base_size = 0


def _run_locally(
    config: ml_collections.ConfigDict, data_set: DataSet, arguments: Mapping[str, str]
) -> None:
    for name in ("backbone", "crop", "batch"):
        if arguments[name]:
            raise ValueError(f"runlocal and {name}={arguments[name]}: runlocal chooses that itself")
    if arguments["recipe"] == "large_batch":
        raise ValueError("runlocal and recipe=large_batch: runlocal trains with batches of 8")
    config.model.backbone = "resnet18"
    config.model.width = 16
    config.model.multi_grid = ()
    config.data.crop_size = (128, 128)
    config.data.base_size = LOCAL_BASE_SIZE
    config.train.batch_size = 8
    config.train.epochs = 0
    config.train.steps = 400
    config.train.log_every = 10
    config.optimizer.learning_rate = 0.02
    config.data.eval_split = data_set.local_split
    config.eval = common.get_config().eval
    if data_set.image_size is not None and min(data_set.image_size) <= MAX_LOCAL_SIDE:
        config.eval.base_size = 0


def choose(arguments: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    """Returns the value of an argument; a ValueError if it is none of the known ones."""
    if arguments[name] not in known:
        near = difflib.get_close_matches(arguments[name], known, n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise ValueError(f"{name}={arguments[name]}: give one of {', '.join(known)}{hint}")
    return arguments[name]


def positive(name: str, text: str) -> int:
    """Returns the number of an argument; a ValueError if it is not above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name}={text}: give a whole number above 0")
    return int(text)


def crop_of(arguments: Mapping[str, str], default: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) of "SIDE" or "HEIGHTxWIDTH"."""
    if not arguments["crop"]:
        return default
    sides = arguments["crop"].split("x")
    if len(sides) > 2:
        raise ValueError(f"crop={arguments['crop']}: give SIDE or HEIGHTxWIDTH")
    return positive("crop", sides[0]), positive("crop", sides[-1])
