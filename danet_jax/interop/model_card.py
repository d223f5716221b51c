"""The model card of a weights folder: what a stranger has to know, in Markdown for a hub."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from danet_jax.base.texts import one_line
from danet_jax.base.wording import counted, listed
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.interop.weights_files import TO_FILL_IN
from danet_jax.runs import history
from danet_jax.runs.config import base_name

# What Markdown, HTML or a hub's mathematics would take for more than a character.
_SPECIAL = re.compile(r"[\\$`*_{}\[\]<>#!|~&@^]")
# A backslash before some characters begins mathematics on hubs, and so does a dollar.
_ENTITIES = {"\\": "&#92;", "$": "&#36;"}
# The tags by which hubs are searched.
_TAGS = ("danet", "jax", "flax", "semantic-segmentation", "scene-segmentation")
_SCORES = {"mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says; texts are as they come from the run, and are escaped by `render`.

    recipe: name → what the training did, empty where no step was trained. evaluations: the notes of
    `runs.history` on this checkpoint, oldest first. weights: where the run's first weights came
    from, as in weights.json. trained_images: of the training split, None where unknown.
    """

    config: ml_collections.ConfigDict
    names: Sequence[str]
    colors: Sequence[Sequence[int]]
    settings: InferenceSettings
    step: int | None
    total_steps: int | None
    trained_images: int | None
    parameters: int
    recipe: Mapping[str, str]
    evaluations: Sequence[Mapping[str, Any]]
    weights: Mapping[str, Any] | None


def render(card: Card) -> str:
    """Returns the card as a Markdown file, with the front matter that hubs read."""
    sections = {
        f"DANet on {escaped(card.config.data.name)}": _what(card),
        "Data": _data(card),
        "Recipe": _recipe(card),
        "Scores": _scores(card),
        "How to use it": _usage(),
        "Limits": _limits(card),
        "Licence": _licence(card),
    }
    parts = [_front_matter()]
    for level, (title, lines) in enumerate(sections.items()):
        parts.append("\n".join([f"{'##' if level else '#'} {title}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def escaped(text: object) -> str:
    """Returns a text as Markdown that shows it and does nothing else, in one line."""
    return _SPECIAL.sub(
        lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), one_line(text, longest=1000)
    )


def first_weights(weights: Mapping[str, Any] | None) -> str:
    """Returns where the first weights of a run came from, in words; `weights` as in a Card."""
    if weights is None:
        return "random weights"
    words = f"{weights['part']} from {base_name(weights['file'])} (SHA-256 {weights['sha256']})"
    if weights["reinitialized"]:
        words += ", classifiers initialised randomly, as the number of classes differed"
    if weights["skipped"]:
        words += f", {counted(len(weights['skipped']), 'array')} skipped"
    return words


def _front_matter() -> str:
    lines = [
        "---",
        f"license: {TO_FILL_IN}  # the licence of these weights, such as apache-2.0",
        "library_name: danet-jax",
        "pipeline_tag: image-segmentation",
        "tags:",
        *(f"- {tag}" for tag in _TAGS),
        "---",
    ]
    return "\n".join(lines)


def _what(card: Card) -> list[str]:
    model = card.config.model
    attention = " and ".join(model.attention) or "no"
    classes = counted(len(card.names), "class", "classes")
    which = ""
    if card.step is not None:
        of = "" if card.total_steps is None else f" of {card.total_steps:,}"
        which = f" This is the checkpoint of step {card.step:,}{of}"
        which += (
            f", the moving average of its weights (decay {card.config.train.ema_decay:g})."
            if card.config.train.ema_decay
            else "."
        )
    return [
        "A Dual Attention Network (J. Fu et al., *Dual Attention Network for Scene Segmentation*, "
        f"CVPR 2019) in JAX and Flax: {attention} attention on {escaped(model.backbone)}, "
        f"{card.parameters:,} parameters. It gives each pixel of an image one of {classes}."
        + which,
        "",
        "`model.safetensors` holds the weights, `config.json` the experiment, `classes.json` the "
        "classes with their colours, and `manifest.json` checksums and versions. No file holds "
        "code.",
    ]


def _data(card: Card) -> list[str]:
    data = card.config.data
    images = "a number of images that was not noted"
    if card.trained_images is not None:
        images = counted(card.trained_images, "image")
    lines = [f"- Data set: {escaped(data.name)}"]
    if card.recipe:
        lines.append(f"- Trained on the split {escaped(data.train_split)}, {images}")
    else:
        lines.append("- No step was trained in this run, so its training data is elsewhere")
    evaluated = dict.fromkeys(
        (split, record["images"])
        for split, record in zip(_splits(card.evaluations), card.evaluations, strict=True)
    )
    lines += [
        f"- Evaluated on the split {split}, {counted(number, 'image')}"
        for split, number in evaluated
    ]
    newest = card.evaluations[-1] if card.evaluations else None
    head = ["id", "class", "colour (RGB)"]
    rows = [
        [str(index), escaped(name), ", ".join(map(str, color))]
        for index, (name, color) in enumerate(zip(card.names, card.colors, strict=True))
    ]
    if newest is not None:
        head.append(f"IoU (evaluation {len(card.evaluations)})")
        for row, iou in zip(rows, newest["iou"], strict=True):
            row.append(_score(iou))
    return [*lines, "", *_table(head, rows)]


def _splits(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the name of each evaluation's split, numbered where others hold other examples."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    names = []
    for record in evaluations:
        known = kinds.setdefault(record["split"], [])
        fields = ("images", "class_pixels", "fingerprint")
        same = (n for n, one in enumerate(known, start=1) if history.agree(one, record, fields))
        number = next(same, len(known) + 1)
        if number > len(known):
            known.append(record)
        more = "" if number == 1 else f" (other examples, no. {number})"
        names.append(escaped(record["split"]) + more)
    return names


def _recipe(card: Card) -> list[str]:
    lines = [f"- {name}: {escaped(text)}" for name, text in card.recipe.items()]
    if not card.recipe:
        lines += [
            f"- Start: {escaped(first_weights(card.weights))}",
            "- No step was trained in this run",
        ]
    return [*lines, "", "`config.json` holds every field."]


def _scores(card: Card) -> list[str]:
    if not card.evaluations:
        return ["No evaluation of this checkpoint was recorded, so nothing is known of its scores."]
    head = ["", "split", "images", "settings", *_SCORES.values(), "seconds per image", "device"]
    rows = []
    versions = []
    splits = _splits(card.evaluations)
    for number, (split, record) in enumerate(zip(splits, card.evaluations, strict=True), start=1):
        settings = InferenceSettings.of_record(record["settings"])
        absent = "count 0" if settings.merge == "original" else "are left out"
        seconds = record["seconds_per_image"]
        rows.append(
            [
                str(number),
                split,
                str(record["images"]),
                f"{escaped(settings.describe())}; absent classes {absent}",
                *(_score(record["metrics"].get(name)) for name in _SCORES),
                "–" if seconds is None else f"{seconds:.3g}",
                escaped(record["device"]),
            ]
        )
        noted = record.get("versions") or {}
        words = ", ".join(f"{escaped(name)} {escaped(text)}" for name, text in noted.items())
        versions.append(f"- Evaluation {number} ran with {words or 'versions that were not noted'}")
    step = "" if card.step is None else f" of step {card.step:,}"
    return [
        f"All that was recorded for the checkpoint{step}; scores are shares from 0 to 1.",
        "",
        *_table(head, rows),
        "",
        *versions,
    ]


def _usage() -> list[str]:
    return [
        "With danet-jax installed, in this folder:",
        "",
        "```python",
        "import danet_jax",
        'predictor = danet_jax.Predictor.from_folder(".")  # or "hf://OWNER/NAME", from a hub',
        'labels = predictor("photo.jpg")  # class ids [height, width]; predictor.names names them',
        "```",
    ]


def _limits(card: Card) -> list[str]:
    data, settings = card.config.data, card.settings
    lines = [
        f"It predicts by these settings, unless others are given: {escaped(settings.describe())}."
    ]
    if card.recipe:
        height, width = data.crop_size
        low, high = (int(data.base_size * scale) for scale in data.scale_range)
        drawn = f"{low}" if low == high else f"{low} to {high}"
        lines += [
            f"It was trained on crops of {height}×{width} pixels, of images whose short side was "
            f"{drawn}: it has not seen things at other sizes.",
            f"It is one training, of seed {card.config.seed}: how much scores vary from one to the "
            "next was not measured.",
        ]
    splits = sorted({record["split"] for record in card.evaluations})
    if splits:
        lines.append(
            f"It was evaluated on {escaped(listed(splits))} of {escaped(data.name)} alone. How it "
            "does on other places, cameras, seasons or weather was not measured."
        )
    else:
        lines.append("It was not evaluated, on these or on other images.")
    trained = [split for split in splits if _parts(split) & _parts(data.train_split)]
    if card.recipe and trained:
        lines.append(
            f"It was trained on {escaped(data.train_split)}, so scores on "
            f"{escaped(listed(trained))} can be of the same images, and say nothing of others then."
        )
    if card.recipe and data.eval_split in splits:
        lines.append(
            f"While it was trained, checkpoints were compared on {escaped(data.eval_split)}, so "
            "scores on that split may be better than on images that nobody looked at."
        )
    lines += _unmeasured_classes(card)
    lines.append(
        "Each pixel gets one of the classes, whatever it shows. Whether scores are well "
        "calibrated, and how it does under changes that are meant to mislead it, was not measured."
    )
    return [f"- {line}" for line in lines]


def _unmeasured_classes(card: Card) -> list[str]:
    if not card.evaluations:
        return []
    iou = [record["iou"] for record in card.evaluations]
    absent = [
        name for index, name in enumerate(card.names) if all(row[index] is None for row in iou)
    ]
    if not absent:
        return []
    names = escaped(listed(absent, shown=20))
    return [
        "These classes neither occur in the evaluated images nor were predicted there, so they "
        f"have no score: {names}."
    ]


def _parts(split: str) -> set[str]:
    """The names in a split that is cut and added: "train[:100]+val" is of train and val."""
    return {part.partition("[")[0].strip() for part in split.split("+")}


def _licence(card: Card) -> list[str]:
    return [
        f"{TO_FILL_IN}: name the licence of these weights here, in place of this line, and in the "
        "line `license:` at the top.",
        "",
        f"The terms of {escaped(card.config.data.name)} and of weights that the training began "
        "with may limit the choice. The program danet-jax itself is under Apache-2.0.",
    ]


def _score(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
