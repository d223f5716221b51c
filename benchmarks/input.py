"""Training input: images a second, beside PyTorch's DataLoader with the original's transforms.

    python -m benchmarks.input --frames=CamVid/train

Photographs of 2048x1024 are put together from the frames, without resampling, and prepared twice:
as PNG and with --storage=fast. The loaders take turns in one process; each time a loader starts
anew, and the first batches, which wait for its workers, are not counted.
"""

import argparse
import functools
import itertools
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import PIL
import torch
from PIL import Image
from torch.utils import data

from benchmarks import results
from benchmarks.torch_input import PillowPairs, read_pair, transform
from danet_jax import input_pipeline
from danet_jax.base.imagenet import MEAN, STD
from danet_jax.configs import cityscapes
from danet_jax.input_pipeline import transforms
from danet_jax.input_pipeline.builders import camvid
from danet_jax.input_pipeline.labels import IGNORE_LABEL

SIZE = (1024, 2048)
# How our prepared records are stored, and what that is called.
STORAGES = {"original": "PNG", "fast": "fast storage"}
# Worker processes, or threads.
UNITS = (1, 2)
# The first batches are not counted: they wait for the start, or were made in advance.
WARM_UP = 6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, required=True, help="CamVid/train: PNG images")
    parser.add_argument("--number", type=int, default=24, help="photographs that are made")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=10, help="counted of each repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=results.place, help="file for the numbers")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        pairs = write_source(args.frames, source, args.number)
        splits = {}
        for storage in STORAGES:
            data_dir = Path(folder) / storage
            input_pipeline.prepare("camvid", data_dir=data_dir, source=source, storage=storage)
            splits[storage] = input_pipeline.open_split("camvid", "train", data_dir=data_dir)
        loaders = make_loaders(pairs, splits, args.batch_size)
        rates = defaultdict(list)
        for number in range(args.repetitions):
            # Every second round runs backwards, so that a drift affects all loaders alike.
            for name in list(loaders)[:: -1 if number % 2 else 1]:
                rates[name].append(
                    rate(loaders[name], batches=args.batches, batch_size=args.batch_size)
                )
                print(f"{number + 1:2d}  {name:35s} {rates[name][-1]:6.1f} images/s", flush=True)
        medians = {name: float(np.median(values)) for name, values in rates.items()}
        record = {
            "settings": vars(args) | {"frames": str(args.frames), "json": None},
            "images_per_second": {name: summary(values) for name, values in rates.items()},
            "ratio_to_pytorch_with_as_many": {
                name: medians[name] / medians[reference(loader.units)]
                for name, loader in loaders.items()
            },
            "one_by_one": one_by_one(pairs, splits),
            "versions": {"torch": torch.__version__, "Pillow": PIL.__version__}
            | {"OpenCV": cv2.__version__, "grain": metadata.version("grain")},
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }
    print(json.dumps(record, indent=2))
    if args.json:
        results.write_json(args.json, record)


# --- what is read --------------------------------------------------------------------------------


def write_source(frames: Path, source: Path, number: int) -> list[tuple[Path, Path]]:
    """Writes mosaics of frames and of their labels in CamVid's layout; pairs of train."""
    files = sorted(frames.glob("*.png"))
    labels = frames.with_name(f"{frames.name}annot")
    rng = np.random.default_rng(0)
    pairs = []
    for split, count in (("train", number), ("val", 1)):
        lines = []
        for index in range(count):
            drawn = [files[k] for k in rng.integers(len(files), size=64)]
            pair = [source / part / f"{index:03d}.png" for part in (split, f"{split}annot")]
            for path, parts in zip(
                pair, (drawn, [labels / file.name for file in drawn]), strict=True
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mosaic([np.asarray(Image.open(file)) for file in parts])).save(path)
            lines.append(f"{split}/{index:03d}.png {split}annot/{index:03d}.png\n")
            if split == "train":
                pairs.append((pair[0], pair[1]))
        (source / f"{split}.txt").write_text("".join(lines))
    return pairs


def mosaic(parts: list[np.ndarray]) -> np.ndarray:
    """Arrays of one size side by side, cut to SIZE."""
    rows, columns = (-(-whole // part) for whole, part in zip(SIZE, parts[0].shape, strict=False))
    lines = [np.concatenate(parts[row * columns : (row + 1) * columns], 1) for row in range(rows)]
    return np.concatenate(lines)[: SIZE[0], : SIZE[1]]


# --- how long it takes ---------------------------------------------------------------------------


class Loader(NamedTuple):
    """A way to make batches: the number of its processes or threads, a function that begins an
    endless stream, and one that ends it."""

    units: int
    begin: Callable[[], Iterator]
    end: Callable[[Any], None]


def make_loaders(
    pairs: list[tuple[Path, Path]], splits: dict[str, input_pipeline.Split], batch_size: int
) -> dict[str, Loader]:
    """Returns PyTorch's loaders and this project's, the latter with each storage, by name."""

    def pytorch(workers):
        config = transforms.AugmentationConfig.of(cityscapes.get_config().data)
        dataset = PillowPairs(pairs, config, length=10**6)
        return iter(data.DataLoader(dataset, batch_size=batch_size, num_workers=workers))

    def grain(storage, *, workers, threads):
        config = cityscapes.get_config().data
        config.num_workers, config.num_threads = workers, threads
        return input_pipeline.TrainingStream(splits[storage], config, batch_size=batch_size, seed=0)

    loaders = {}
    for units in UNITS:
        begin = functools.partial(pytorch, units)
        loaders[reference(units)] = Loader(units, begin, end_workers)
        for storage, name in STORAGES.items():
            for kind, workers in (("workers", units), ("threads", 0)):
                # There are as many threads in all as PyTorch has workers.
                begin = functools.partial(grain, storage, workers=workers, threads=units)
                loaders[f"danet-jax, {name}, {units} {kind}"] = Loader(
                    units, begin, input_pipeline.TrainingStream.close
                )
    return loaders


def reference(workers: int) -> str:
    """Returns the name of PyTorch's loader with as many workers."""
    return f"PyTorch, PNG, {workers} workers"


def end_workers(iterator: Any) -> None:
    """Waits for the end of a DataLoader's processes, which would disturb the next loader."""
    iterator._shutdown_workers()


def rate(loader: Loader, *, batches: int, batch_size: int) -> float:
    """Returns images per second, once the batches made in advance are used up."""
    stream = loader.begin()
    try:
        for _ in itertools.islice(stream, WARM_UP):
            pass
        start = time.perf_counter()
        for _ in itertools.islice(stream, batches):
            pass
        return batches * batch_size / (time.perf_counter() - start)
    finally:
        loader.end(stream)


def one_by_one(
    pairs: list[tuple[Path, Path]], splits: dict[str, input_pipeline.Split]
) -> dict[str, Any]:
    """Returns the CPU milliseconds of each step, image by image in one thread, and how far the
    results of both projects differ, which apply the same draws."""
    config = transforms.AugmentationConfig.of(cityscapes.get_config().data)
    spent: dict[str, list[float]] = defaultdict(list)
    differences, equal_labels = [], []

    def timed(name, function):
        start = time.thread_time()
        result = function()
        spent[name].append(1000 * (time.thread_time() - start))
        return result

    for index, pair in enumerate(pairs):
        drawn = transforms.draw_augmentation(np.random.default_rng(index), SIZE, config)
        opened = timed("PyTorch: read, decode", lambda pair=pair: read_pair(pair))
        want_image, want_label = timed(
            "PyTorch: transform",
            lambda opened=opened, drawn=drawn: transform(opened[0], opened[1], drawn),
        )
        for storage, name in STORAGES.items():
            example = timed(
                f"danet-jax, {name}: read, decode",
                lambda storage=storage, index=index: splits[storage][index],
            )
            image, label = timed(
                "danet-jax: transform",
                lambda example=example, drawn=drawn: transforms.apply_augmentation(
                    example["image"], example["label"], drawn
                ),
            )
        mean, std = (np.array(values).reshape(3, 1, 1) for values in (MEAN, STD))
        grey = 255 * (want_image.numpy() * std + mean)
        differences.append(float(np.abs(grey - image.transpose(2, 0, 1)).mean()))
        want_label[want_label == camvid.VOID] = IGNORE_LABEL
        equal_labels.append(float(np.mean(label == want_label.numpy())))
    return {
        "cpu_milliseconds": {name: summary(values) for name, values in spent.items()},
        "largest_mean_difference_of_grey_levels": max(differences),
        "least_share_of_equal_labels": min(equal_labels),
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Returns the median and the spread."""
    return {
        "median": float(np.median(values)),
        "quartiles": [float(q) for q in np.percentile(values, [25, 75])],
        "range": [min(values), max(values)],
    }


if __name__ == "__main__":
    main()
