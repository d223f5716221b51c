"""Pages of a data set: as it is stored, and as training reads it, after augmentation."""

import collections
import contextlib
from collections.abc import Sequence
from pathlib import Path

import ml_collections
import numpy as np

from danet_jax import input_pipeline
from danet_jax.base.wording import counted, listed
from danet_jax.configs import rules
from danet_jax.console.terminal import image_progress, say
from danet_jax.evaluation.eval_config import settings_of
from danet_jax.tasks import doubts
from danet_jax.visualization import pages
from danet_jax.visualization.dataset_report import (
    NUM_SAMPLES,
    DatasetReport,
    Sample,
    SplitContent,
    write_dataset_report,
)

SURVEY_PAGE = "dataset_report.html"
INSPECTION_PAGE = "inspection.html"
# A larger share of padding than this wastes computation.
MUCH_PADDING = 0.25


def write_survey(data: ml_collections.ConfigDict) -> Path:
    """Writes the page of a prepared data set as it is stored, and shows its warnings."""
    path = Path(data.data_dir) / data.name / SURVEY_PAGE
    pages.check_place(path)
    labels = input_pipeline.labels_of(data.name, data_dir=data.data_dir)
    survey = input_pipeline.survey_of(data.name, data_dir=data.data_dir)
    for warning in survey.warnings:
        say(f"warning: {warning}")
    samples = [
        sample
        for name in survey.splits
        for sample in _stored_samples(data, name, _share(survey.splits, name))
    ]
    report = DatasetReport(
        title=data.name,
        subtitle="The data set as it is stored.",
        names=labels.names,
        colors=labels.colors,
        splits={name: SplitContent(**vars(split)) for name, split in survey.splits.items()},
        warnings=survey.warnings,
        samples=samples,
        facts={"prepared in": str(data.data_dir)},
    )
    return write_dataset_report(path, report)


def _share(splits: dict, name: str) -> int:
    """How many of the samples are taken from a split; none from an unlabelled one."""
    labelled = [split for split, content in splits.items() if content.class_pixels.any()]
    if name not in labelled:
        return 0
    number, more = divmod(NUM_SAMPLES, len(labelled))
    return number + (labelled.index(name) < more)


def _stored_samples(data: ml_collections.ConfigDict, name: str, number: int) -> list[Sample]:
    if not number:
        return []
    split = input_pipeline.open_split(data.name, name, data_dir=data.data_dir)
    # They are spread evenly over the split, as neighbours are often frames of one video.
    indices = sorted(set(np.linspace(0, len(split) - 1, number).round().astype(int).tolist()))
    examples = (split[index] for index in indices)
    return [
        Sample(
            id=f"{name}: {example['id']}",
            image=np.asarray(example["image"]),
            label=np.asarray(example["label"]),
        )
        for example in examples
    ]


def write_inspection(config: ml_collections.ConfigDict, number: int) -> tuple[Path, Sequence[str]]:
    """Writes the page of the training stream's first examples; returns it and its warnings."""
    data = config.data
    split = input_pipeline.open_split(data.name, data.train_split, data_dir=data.data_dir)
    rules.settle_num_classes(config, split.labels.num_classes)
    settings = settings_of(config.eval)
    path = Path(data.data_dir) / data.name / INSPECTION_PAGE
    pages.check_place(path)
    names = split.labels.names
    counts = np.zeros(256, np.int64)
    images_with_class = np.zeros(256, np.int64)
    padding = 0
    samples: list[Sample] = []
    stream = input_pipeline.TrainingStream(
        split, data, batch_size=config.train.batch_size, seed=config.seed
    )
    with contextlib.closing(stream), image_progress() as progress:
        task = progress.add_task("reading training examples", total=number)
        for position in range(number):
            row = position % config.train.batch_size
            if row == 0:
                batch = next(stream)
            image, label = batch["image"][row], batch["label"][row]
            ids = np.bincount(label.ravel(), minlength=256)
            counts += ids
            images_with_class += ids > 0
            padding += _padded(image, label)
            if len(samples) < NUM_SAMPLES:
                samples.append(Sample(id=f"example {position + 1}", image=image, label=label))
            progress.advance(task)

    height, width = data.crop_size
    examples_read = counted(number, "example")
    share = padding / counts.sum()
    warnings = _doubts(names, images_with_class, examples_read, share)
    evaluated = input_pipeline.open_split(data.name, data.eval_split, data_dir=data.data_dir)
    warnings += doubts.doubts(config, settings, evaluated.sizes())
    warnings += doubts.doubts_on_splits(split, evaluated)
    warnings += input_pipeline.doubts_on_labels(
        data.name, (data.train_split, data.eval_split), data_dir=data.data_dir
    )
    report = DatasetReport(
        title=f"{data.name}, as training sees it",
        subtitle=f"The first {examples_read} of the training stream, after augmentation.",
        names=names,
        colors=split.labels.colors,
        splits={
            data.train_split: SplitContent(
                examples=number,
                class_pixels=counts[: len(names)],
                images_with_class=images_with_class[: len(names)],
                ignored_pixels=int(counts[input_pipeline.IGNORE_LABEL]),
                sizes=collections.Counter({f"{width}x{height}": number}),
            )
        },
        warnings=warnings,
        samples=samples,
        facts={
            "crop": f"{height} × {width}",
            "short side": " to ".join(f"{scale * data.base_size:g}" for scale in data.scale_range),
            "padding": f"{100 * share:.1f} %",
            "seed": str(config.seed),
        },
        unit="examples",
    )
    return write_dataset_report(path, report), warnings


def _padded(image: np.ndarray, label: np.ndarray) -> int:
    """Counts the pixels of padding: black and ignored rows and columns at the bottom and right."""
    empty = (label == input_pipeline.IGNORE_LABEL) & ~image.any(axis=2)
    rows = empty.all(axis=1)[::-1]
    columns = empty.all(axis=0)[::-1]
    height, width = (
        side - (len(flags) if flags.all() else int(np.argmin(flags)))
        for side, flags in zip(label.shape, (rows, columns), strict=True)
    )
    return label.size - height * width


def _doubts(
    names: Sequence[str], images_with_class: np.ndarray, examples_read: str, padding: float
) -> list[str]:
    warnings = []
    if padding > MUCH_PADDING:
        warnings.append(
            f"{100 * padding:.0f} % of the pixels are padding: a smaller config.data.crop_size, or "
            "a larger config.data.base_size, would train on more of the images in the same time."
        )
    absent = [name for name, count in zip(names, images_with_class, strict=False) if not count]
    if absent:
        warnings.append(f"In {examples_read} there is no pixel of {listed(absent)}.")
    return warnings
