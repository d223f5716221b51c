"""A run's folder: its files, what each looks like, and what may change in a run."""

import dataclasses
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import ml_collections

from danet_jax.base import shapes
from danet_jax.base.errors import UserError
from danet_jax.base.files import check_local, replace_file
from danet_jax.base.json_files import is_there, read_json
from danet_jax.base.wording import counted
from danet_jax.console.terminal import say
from danet_jax.runs.checkpoint_files import REPLACED, is_checkpoint
from danet_jax.runs.config import apply_override, flat, load_config, restore, with_tuples

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.json"
WEIGHTS_FILE = "weights.json"
ORIGIN_FILE = "origin.json"
EVALUATIONS_FILE = "report/evaluations.json"
MOST_CLASSES = 255
REPORT_FILE = "report/index.html"
CHECKPOINTS = "checkpoints"
LOCK_FILE = ".lock"

_EVALUATION = shapes.fields(
    {
        "split": shapes.text,
        "images": shapes.whole(),
        "step": shapes.optional(shapes.whole()),
        "settings": shapes.fields(
            {
                "mode": shapes.text,
                "crop_size": shapes.whole(),
                "base_size": shapes.whole(),
                "scales": shapes.list_of(shapes.number, least=1),
                "flip": shapes.truth,
                "merge": shapes.text,
            }
        ),
        "device": shapes.text,
        "iou": shapes.list_of(shapes.optional(shapes.number), least=1, most=MOST_CLASSES),
        "metrics": shapes.fields({"mean_iou": shapes.optional(shapes.number)}),
        "seconds_per_image": shapes.optional(shapes.number),
    },
    # Earlier versions noted none.
    {
        "versions": shapes.map_of(shapes.text),
        "class_pixels": shapes.list_of(shapes.whole()),
        "fingerprint": shapes.list_of(shapes.list_of(shapes.number)),
    },
)
_COLOR = shapes.list_of(shapes.whole(0, 255), least=3, most=3)


@dataclasses.dataclass(frozen=True)
class RunFile:
    """One kind of file: its shape, and where what it held is found again."""

    shape: shapes.Shape
    advice: str


# By these a folder of weights is known, which holds a config and classes, too.
MANIFEST = "manifest.json"
ARRAYS_FILE = "model.safetensors"

RUN_FILES = {
    # Its fields are checked beside those of configs/common.py, by `config.restore`.
    CONFIG_FILE: RunFile(
        shapes.map_of(shapes.anything),
        "Mend it, or take it from a copy: each checkpoint holds the run's config, too, as "
        '"config" in checkpoints/STEP/record/metadata.',
    ),
    CLASSES_FILE: RunFile(
        shapes.same_length(
            shapes.fields(
                {
                    "names": shapes.list_of(shapes.text, least=1, most=MOST_CLASSES),
                    "colors": shapes.list_of(_COLOR),
                }
            ),
            "names",
            "colors",
        ),
        "Mend it, or take it from a copy: the data set's metadata.json holds the same names and "
        "colors.",
    ),
    WEIGHTS_FILE: RunFile(
        shapes.fields(
            {
                "file": shapes.text,
                "sha256": shapes.text,
                "part": shapes.one_of("network", "backbone"),
                "names": shapes.text,
                "arrays": shapes.whole(),
                "reinitialized": shapes.list_of(shapes.text),
                "skipped": shapes.list_of(shapes.text),
            }
        ),
        "Mend it, or take it from a copy: it says where the run's first weights came from.",
    ),
    ORIGIN_FILE: RunFile(
        shapes.fields(
            {
                "danet_jax": shapes.text,
                "data_dir": shapes.optional(shapes.text),
                "loss": shapes.optional(shapes.text),
            },
            {"loss_code": shapes.optional(shapes.text)},
        ),
        "Mend it, or move it away: it says by which version and with which data the run began.",
    ),
    EVALUATIONS_FILE: RunFile(
        shapes.fields({"evaluations": shapes.list_of(_EVALUATION)}),
        "Mend it, or move it away: the next report then starts to compare anew.",
    ),
}

# These fields may change between starts of one run: they change no number of the training, or only
# by the rounding of sums in another order.
FREE_FIELDS = (
    "data.data_dir",
    "data.num_threads",
    "data.num_workers",
    "eval.batch_size",
    "eval.window_batch",
    "loss.logit_memory",
    "mesh.distributed",
    "mesh.space",
    "model.conv_weight_gradient",
    "model.remat",
    "train.checkpoint_every",
    "train.log_every",
)
# An evaluation may also change these. In training they may not change, since they decide which
# checkpoint is a run's best.
EVALUATION_FIELDS = (
    *FREE_FIELDS,
    "eval.base_size",
    "eval.crop_size",
    "eval.flip",
    "eval.merge",
    "eval.mode",
    "eval.preset",
    "eval.scales",
    "eval.short_side",
    "model.energy_memory",
)


@runtime_checkable
class Classes(Protocol):
    """What a run remembers of its data set."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def colors(self) -> Sequence[tuple[int, int, int]]: ...


def read_file(workdir: Path, name: str) -> Any:
    """Returns what a file of RUN_FILES holds; a UserError where it is not there or torn."""
    path = workdir / name
    if not is_there(path):
        check_local(workdir, name="workdir")
        raise UserError(f"{workdir} is not the workdir of a run: it has no {name}.")
    kind = RUN_FILES[name]
    return read_json(path, kind.shape, error=UserError, advice=kind.advice)


def write_file(path: Path, value: Any) -> None:
    """Writes a JSON file that is whole or as it was before."""
    replace_file(path, data=(json.dumps(value, indent=2) + "\n").encode())


def choose_config(
    spec: str | None, overrides: Sequence[str], workdir: Path
) -> ml_collections.ConfigDict:
    """Returns the config of `load_config`; where none is named, that of the workdir's run."""
    if spec:
        return load_config(spec, overrides)
    if not (workdir / CONFIG_FILE).is_file():
        raise UserError(f"{workdir} holds no run to continue: give --config.")
    return override_run(read_config(workdir, training=True), overrides, allowed=FREE_FIELDS)


def override_run(
    config: ml_collections.ConfigDict,
    overrides: Sequence[str],
    *,
    allowed: Sequence[str] = EVALUATION_FIELDS,
) -> ml_collections.ConfigDict:
    """Changes a run's config, in fields that move no number of its training."""
    for override in overrides:
        name = override.removeprefix("--config.").partition("=")[0]
        apply_override(config, override)
        if name not in allowed:
            raise UserError(
                f"{override}: the run's config is fixed. Only these can change: "
                + ", ".join(allowed)
            )
    return config


def read_config(workdir: Path, *, training: bool = False) -> ml_collections.ConfigDict:
    """Returns the config that a workdir's run was started with, as `configuration.restore` does."""
    recorded = read_file(workdir, CONFIG_FILE)
    return restore(recorded, source=workdir / CONFIG_FILE, training=training)


def read_classes(workdir: Path) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Returns the names and colours of the classes that a workdir's run was trained on."""
    classes = read_file(workdir, CLASSES_FILE)
    names = tuple(classes["names"])
    if len(names) != (wanted := read_config(workdir).model.num_classes):
        raise UserError(
            f"{workdir / CLASSES_FILE} holds {counted(len(names), 'name')}, but "
            f"config.model.num_classes in {CONFIG_FILE} beside it is {wanted}. "
            f"{RUN_FILES[CLASSES_FILE].advice}"
        )
    return names, with_tuples(classes["colors"])


def write_weights(workdir: Path, source: dict[str, Any] | None) -> None:
    """Notes where a new run's first weights come from, None for random ones."""
    if source is None:
        (workdir / WEIGHTS_FILE).unlink(missing_ok=True)
    else:
        write_file(workdir / WEIGHTS_FILE, source)


def read_weights(workdir: Path) -> dict[str, Any] | None:
    """Returns where a run's first weights came from, None where they were random."""
    return read_file(workdir, WEIGHTS_FILE) if is_there(workdir / WEIGHTS_FILE) else None


def is_untrained_import(workdir: Path) -> bool:
    """Whether a run is what `import-torch` wrote: a whole network's weights, and no step after."""
    source = read_weights(workdir)
    if source is None or source["part"] != "network":
        return False
    steps = {name.removeprefix(REPLACED) for name in os.listdir(workdir / CHECKPOINTS)}
    return {step for step in steps if step.isdigit()} == {"0"}


def check_import_is_whole(workdir: Path) -> None:
    """Raises a UserError where a kill kept imported weights from becoming a checkpoint."""
    if (source := read_weights(workdir)) and source["part"] == "network":
        raise UserError(
            f"The import of {source['file']} into {workdir} was cut short: repeat it, or give "
            "--fresh to train from random weights."
        )


def has_checkpoint(workdir: Path) -> bool:
    """True where a run in the workdir has saved anything."""
    try:
        # A folder that may not be read is an error: it is not one without checkpoints.
        names = os.listdir(workdir / CHECKPOINTS)
    except (FileNotFoundError, NotADirectoryError):
        return False
    # A folder of digits and more is what a kill left of one.
    return any(name.isdigit() or _is_set_aside(workdir / CHECKPOINTS / name) for name in names)


def saved_steps(workdir: Path) -> list[int]:
    """Returns the steps that folders of checkpoints are named after."""
    try:
        names = os.listdir(workdir / CHECKPOINTS)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def _is_set_aside(folder: Path) -> bool:
    """Whether training will bring this folder back as a checkpoint."""
    return folder.name.removeprefix(REPLACED).isdigit() and is_checkpoint(folder)


def check_same_run(
    old: ml_collections.ConfigDict, new: ml_collections.ConfigDict, subject: str
) -> None:
    """Raises a UserError, "SUBJECT of another config: …", where the two are not of one run."""
    before, now = flat(old), flat(new)
    missing = "(absent)"
    differing = [
        f"  config.{name}: {before.get(name, missing)!r} in it, {now.get(name, missing)!r} "
        "asked for"
        for name in sorted(before.keys() | now.keys())
        if name not in FREE_FIELDS
        # Weights that were imported leave open what follows from a training's length.
        and before.get(name, missing) not in (None, now.get(name, missing))
    ]
    if differing:
        raise UserError(
            f"{subject} of another config:\n"
            + "\n".join(differing)
            + "\nName another --workdir, ask for the same values, or give --fresh, which moves the "
            "old run aside and starts anew."
        )


def check_same_network(
    recorded: ml_collections.ConfigDict, config: ml_collections.ConfigDict, checkpoint: Path
) -> None:
    """Raises a UserError where a checkpoint is of another network or data set than the config."""
    before, now = flat(recorded), flat(config)
    # What a file of weights is called changes no network, once its arrays are in a checkpoint.
    free = (*EVALUATION_FIELDS, "model.pretrained_backbone")
    differing = [
        f"  config.{name}: {before[name]!r} in it, {now.get(name)!r} in {CONFIG_FILE}"
        for name in before
        if (name.startswith("model.") or name == "data.name")
        and name not in free
        # Weights that were imported leave open what follows from training.
        and before[name] not in (None, now.get(name))
    ]
    if differing:
        raise UserError(
            f"{checkpoint} is of a run with another config:\n"
            + "\n".join(differing)
            + f"\nGive {CONFIG_FILE} the checkpoint's values, which its record/metadata holds, or "
            "bring the run's own checkpoints back."
        )


@functools.cache  # so that it is said once, although a command locks several times
def say_unlocked(workdir: Path, reason: str) -> None:
    """Says that nothing keeps two commands from writing into a workdir at the same time."""
    say(
        f"{workdir} is on a file system without locks ({reason}), so a second train or eval in it "
        "at the same time would not be noticed: start one at a time"
    )


def check_classes(workdir: Path, labels: Classes) -> None:
    """Raises a UserError where a run's classes are others than the data set's, or in other order.

    A data set that was prepared again from another list of classes has the same number of them.
    """
    if not is_there(workdir / CLASSES_FILE) or not has_checkpoint(workdir):
        return
    names, _ = read_classes(workdir)
    for id, (old, new) in enumerate(zip(names, labels.names, strict=False)):
        if old != new:
            raise UserError(
                f"{workdir} was trained with class {id} {old!r}, which is {new!r} in the data set "
                "now. Prepare it with the classes in their former order, or train a new run."
            )
