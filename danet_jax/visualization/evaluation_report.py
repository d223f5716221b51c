"""The report of one evaluation of a run."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import ml_collections
import numpy as np

from danet_jax.base.errors import UserError
from danet_jax.base.wording import counted
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.scoring import Evaluation
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.runs import folder as run_folder
from danet_jax.runs import history
from danet_jax.runs.versions import run_versions
from danet_jax.visualization import pages
from danet_jax.visualization.report import Column, Example, Report, write_report

# The number of best, of median and of worst images.
NUM_EXAMPLES = 3


@runtime_checkable
class Split(Protocol):
    """The evaluated examples, by index: "id", "image" [h, w, 3], "label" [h, w]."""

    split: str

    @property
    def fingerprint(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> dict[str, Any]: ...


def check_report(workdir: Path) -> None:
    """Raises a UserError where it is foreseeable that `write_evaluation_report` would fail."""
    history.check_readable(workdir)
    pages.check_place(workdir / run_folder.REPORT_FILE)
    folder = (workdir / run_folder.REPORT_FILE).parent
    try:
        # The temporary file is removed at once, so that a later failure leaves nothing behind.
        with tempfile.TemporaryFile(dir=folder if folder.exists() else workdir):
            pass
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {folder}: {error.strerror or error}. Make it a "
            "folder that can be written to, or evaluate a copy of the workdir."
        ) from error


def write_evaluation_report(
    workdir: Path,
    evaluation: Evaluation,
    *,
    config: ml_collections.ConfigDict,
    predictor: Predictor,
    split: Split,
) -> Path:
    """Writes report/index.html and the record of this evaluation; returns the report's path."""
    names, colors = run_folder.read_classes(workdir)
    settings = predictor.settings
    scores = evaluation.scores
    per_class = [
        {
            "name": name,
            "color": color,
            "iou": scores.iou[index],
            "precision": scores.precision[index],
            "recall": scores.recall[index],
            "f1": scores.f1[index],
            "pixels": int(scores.pixels[index]),
        }
        for index, (name, color) in enumerate(zip(names, colors, strict=True))
    ]
    report = Report(
        title=f"DANet on {config.data.name}",
        subtitle=f"{counted(len(split), 'image')} of the split {split.split}",
        metrics=scores.summary(),
        per_class=per_class,
        confusion=evaluation.confusion,
        comparison=_comparison(
            workdir, evaluation, settings=settings, step=predictor.step, split=split
        ),
        history=history.read_metrics(workdir),
        examples=_examples(evaluation.image_scores, predictor=predictor, split=split),
        config=config.to_dict(),
        versions=run_versions(),
        settings={
            "checkpoint": "–" if predictor.step is None else f"step {predictor.step}",
            "inference": settings.describe(),
            "absent classes": "count 0" if settings.merge == "original" else "left out",
            "seconds per image": (
                "–"
                if np.isnan(evaluation.seconds_per_image)
                else f"{evaluation.seconds_per_image:.3f}"
            ),
            "device": jax.devices()[0].device_kind,
            "backbone": config.model.backbone,
            "attention": " + ".join(config.model.attention) or "none",
            "initial weights": _initial_weights(run_folder.read_weights(workdir)),
        },
    )
    return write_report(workdir / run_folder.REPORT_FILE, report)


def _comparison(
    workdir: Path,
    evaluation: Evaluation,
    *,
    settings: InferenceSettings,
    step: int | None,
    split: Split,
) -> list[Column]:
    """This and the earlier evaluations of the same checkpoint on the same split."""
    scores = evaluation.scores
    record = {
        "split": split.split,
        "step": step,
        "settings": settings.record(),
        "images": len(split),
        "class_pixels": [int(count) for count in scores.pixels],
        "fingerprint": split.fingerprint,
        "device": jax.devices()[0].device_kind,
        "iou": [_number(value) for value in scores.iou],
        "metrics": {name: _number(value) for name, value in scores.summary().items()},
        "seconds_per_image": _number(evaluation.seconds_per_image),
        "versions": run_versions(),
    }
    return [
        Column(
            title=InferenceSettings.of_record(earlier["settings"]).describe(),
            mean_iou=earlier["metrics"]["mean_iou"],
            seconds_per_image=earlier["seconds_per_image"],
            device=earlier["device"],
            iou=[math.nan if value is None else value for value in earlier["iou"]],
        )
        for earlier in history.add_evaluation(workdir, record)
        if history.agree(earlier, record, history.COMPARABLE)
    ]


def _number(value: float) -> float | None:
    # JSON has no nan.
    return None if math.isnan(value) else float(value)


def _initial_weights(source: dict[str, Any] | None) -> str:
    if source is None:
        return "random"
    words = [
        f"{source['part']} from {Path(source['file']).name} (SHA-256 {source['sha256'][:12]}…)"
    ]
    if source["reinitialized"]:
        words.append("classifiers were initialised randomly, as the number of classes differed")
    if source["skipped"]:
        words.append(f"skipped: {counted(len(source['skipped']), 'array')}")
    return "; ".join(words)


def _examples(
    image_scores: dict[int, float], *, predictor: Predictor, split: Split
) -> list[Example]:
    ordered = sorted(image_scores, key=lambda index: (-image_scores[index], index))
    # With few images, each is shown once.
    count = min(NUM_EXAMPLES, math.ceil(len(ordered) / 3))
    best, rest = ordered[:count], ordered[count:]
    worst, rest = rest[::-1][:count], rest[: max(len(rest) - count, 0)]
    middle = max((len(rest) - count) // 2, 0)
    groups: dict[str, Sequence[int]] = {
        "best": best,
        "median": rest[middle : middle + count],
        "worst": worst,
    }
    examples = []
    for title, indices in groups.items():
        for index in indices:
            example = split[index]
            examples.append(
                Example(
                    title=title,
                    id=example["id"],
                    score=image_scores[index],
                    image=example["image"],
                    truth=example["label"],
                    prediction=np.asarray(predictor(example["image"])),
                )
            )
    return examples
