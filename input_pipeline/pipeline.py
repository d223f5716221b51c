"""Batches of a prepared split, by Grain: an endless stream for training, one pass to evaluate."""

import math
import signal
import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import Int64, UInt8

from danet_jax.base.errors import DataError
from danet_jax.base.exhaustion import machine_memory
from danet_jax.input_pipeline import transforms
from danet_jax.input_pipeline.labels import IGNORE_LABEL
from danet_jax.input_pipeline.sampling import RareClassSampler, count_class_pixels
from danet_jax.input_pipeline.storage.datasets import Split

_EVALUATION_THREADS = 8

Batch = dict[str, UInt8[np.ndarray, "..."] | Int64[np.ndarray, " b"]]


class TrainingStream:
    """Endless augmented batches: {"image": uint8 [b, ch, cw, 3], "label": uint8 [b, ch, cw]}.

    They are a pure function of the seed and the index of the batch, for any number of workers,
    threads and processes. b is this process's part of `batch_size`; together the parts of one index
    hold the same examples, however many processes share it. Each epoch shows every example once, in
    another order; a batch may end one epoch and begin the next. With `rare_class_sampling`, each
    position of an epoch shows an example drawn for it, so that some are repeated.

    Args:
      split: the prepared split.
      data_config: the fields of `config.data`.
      batch_size: examples per batch over all processes.
      seed: 0 to 2**32 - 1.
      next_batch: index of the first batch; the one in `get_state()` continues a stream.
      process_index: the index of this process among `process_count`.
      process_count: the number of processes that share each batch.

    Raises:
      DataError: values that make no batches; a part of the split is labelled, another is not; while
        iterating, an example that is not usable.
    """

    def __init__(
        self,
        split: Split,
        data_config: Any,
        *,
        batch_size: int,
        seed: int,
        next_batch: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ):
        _check_processes(process_index, process_count)
        if batch_size < 1 or batch_size % process_count:
            raise DataError(
                f"train.batch_size {batch_size} does not divide among {process_count} processes"
            )
        if not 0 <= seed < 2**32:
            raise DataError(f"seed is {seed}; give 0 to {2**32 - 1}")
        if next_batch < 0:
            raise DataError(f"next_batch is {next_batch}; give 0 or more")
        split.refuse_mixture()
        threads, workers = data_config.num_threads, data_config.num_workers
        if threads < 0 or workers < 0:
            raise DataError(
                f"data.num_threads {threads}, data.num_workers {workers}: give 0 or more"
            )
        if not data_config.rare_class_sampling >= 0:
            raise DataError(
                f"data.rare_class_sampling is {data_config.rare_class_sampling}; give 0 (off) or "
                "a temperature above it"
            )
        local = batch_size // process_count
        _check_memory(data_config.crop_size, local, batches=max(threads, workers, 1))
        augment = _Augment(transforms.AugmentationConfig.of(data_config))
        examples = _endless(split, seed, data_config.rare_class_sampling).random_map(augment)
        # Rows are shared out after the random map, whose draws depend on the position of an example
        # in the whole sequence.
        batches = examples[process_index::process_count].batch(local, drop_remainder=True)
        # Each thread of Grain makes a whole batch, and workers divide the batches among themselves.
        per_worker = -(-threads // max(workers, 1))
        ahead = grain.ReadOptions(num_threads=per_worker, prefetch_buffer_size=per_worker)
        stream = batches[next_batch:].to_iter_dataset(ahead)
        if workers:
            _parse_flags()
            stream = stream.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=workers),
                worker_init_fn=_leave_interrupts_to_the_main_process,
            )
        self._next_batch = next_batch
        self._split = split
        self._open = [iter(stream)]
        # This also runs at exit: Grain's own clean-up comes too late then, and leaves shared memory
        # behind.
        self._close = weakref.finalize(self, _close, self._open)

    def __iter__(self) -> "TrainingStream":
        return self

    def __next__(self) -> Batch:
        if not self._open:
            raise StopIteration
        try:
            batch = next(self._open[0])
        except DataError as error:
            self.close()
            # A new error, since the frames of this one would keep Grain's iterators alive.
            raise DataError(*error.args) from None
        self._next_batch += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """Returns what a checkpoint needs: the next batch, and what tells its examples."""
        return {
            "next_batch": self._next_batch,
            **self._split.identity,
        }

    def is_at(self, state: Mapping[str, Any]) -> bool:
        """Whether the stream stands where one of this `get_state()` stood, on the same examples."""
        return state.get("next_batch") == self._next_batch and self._split.is_same(state)

    def close(self) -> None:
        """Stops threads and worker processes; the stream ends."""
        self._close()


def _leave_interrupts_to_the_main_process(worker_index: int, worker_count: int) -> None:
    # A terminal sends Ctrl-C to all processes. The main one still has to save, maybe after one more
    # batch.
    del worker_index, worker_count
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _close(iterators: list) -> None:
    while iterators:
        iterators.pop().close()


def _endless(split: Split, seed: int, temperature: float) -> grain.MapDataset:
    """Returns an endless sequence of examples, one for each index."""
    if not temperature:
        return grain.MapDataset.source(split).seed(seed).shuffle().repeat()
    sampler = RareClassSampler(count_class_pixels(split), temperature=temperature)
    positions = grain.MapDataset.range(len(split)).seed(seed).repeat()
    return positions.random_map(_Draw(split, sampler))


class _Draw(grain.transforms.RandomMap):
    def __init__(self, split: Split, sampler: RareClassSampler):
        self._split = split
        self._sampler = sampler

    def random_map(self, element: int, rng: np.random.Generator) -> dict:
        # The element is a position in the epoch; `rng` depends on that in the whole sequence.
        del element
        return self._split[self._sampler.draw(rng)]


class _Augment(grain.transforms.RandomMap):
    def __init__(self, config: transforms.AugmentationConfig):
        self._config = config

    def random_map(self, element: dict, rng: np.random.Generator) -> Batch:
        image, label = element["image"], element["label"]
        drawn = transforms.draw_augmentation(rng, label.shape, self._config)
        drawn = transforms.redraw_crop(rng, label, drawn, cat_max_ratio=self._config.cat_max_ratio)
        image, label = transforms.apply_augmentation(image, label, drawn)
        return {"image": image, "label": label}


def evaluation_batches(
    split: Split, *, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """Yields every example of the split once, over all processes, as it is stored.

    All images of a batch have the same size: a batch is complete when `batch_size` examples of its
    size have come. Remaining batches are filled up with image 0, label IGNORE_LABEL, index −1.

    Yields:
      {"image": uint8 [b, h, w, 3], "label": uint8 [b, h, w], "index": int64 [b]}, b = `batch_size`.

    Raises:
      DataError: no batch of this size, no such process; while iterating, an unusable example.
    """
    _check_processes(process_index, process_count)
    if batch_size < 1:
        raise DataError(f"eval.batch_size is {batch_size}; give 1 or more")
    return _evaluation_batches(split, batch_size, process_index, process_count)


def _evaluation_batches(split, batch_size, process_index, process_count) -> Iterator[Batch]:
    indices = range(process_index, len(split), process_count)
    examples = grain.MapDataset.source(split)[process_index::process_count].to_iter_dataset(
        grain.ReadOptions(
            num_threads=_EVALUATION_THREADS, prefetch_buffer_size=2 * _EVALUATION_THREADS
        )
    )
    groups: dict[tuple[int, ...], list[dict]] = {}
    iterator = iter(examples)
    try:
        for index, example in zip(indices, iterator, strict=True):
            group = groups.setdefault(example["label"].shape, [])
            group.append({"index": index, "image": example["image"], "label": example["label"]})
            if len(group) == batch_size:
                yield _stack(groups.pop(example["label"].shape), batch_size)
        for group in groups.values():
            yield _stack(group, batch_size)
    finally:
        iterator.close()


def _stack(group: list[dict], batch_size: int) -> Batch:
    height, width = group[0]["label"].shape
    batch = {
        "image": np.zeros((batch_size, height, width, 3), np.uint8),
        "label": np.full((batch_size, height, width), IGNORE_LABEL, np.uint8),
        "index": np.full(batch_size, -1, np.int64),
    }
    for row, example in enumerate(group):
        for key, value in example.items():
            batch[key][row] = value
    return batch


def _check_memory(crop_size: Any, batch_size: int, *, batches: int) -> None:
    """Raises a DataError where the batches that are made at once are larger than the memory."""
    sides = crop_size if isinstance(crop_size, list | tuple) else ()
    if not all(isinstance(side, int) and side > 0 for side in sides):
        # AugmentationConfig refuses such a field by its name.
        return
    # An image has three bytes a pixel, a label one.
    needed = 4 * math.prod(sides) * batch_size * batches
    if needed > (memory := machine_memory()):
        raise DataError(
            f"data.crop_size is {'×'.join(map(str, sides))}: {batches} batches of {batch_size} "
            f"such crops, which are read at once, take {needed / 1e9:,.1f} GB of memory, and this "
            f"machine has {memory / 1e9:,.1f} GB. Give smaller crops, a smaller train.batch_size "
            "or a smaller data.num_threads."
        )


def _check_processes(process_index: int, process_count: int) -> None:
    if not 0 <= process_index < process_count:
        raise DataError(f"process {process_index} of {process_count}: no such process")


def _parse_flags() -> None:
    # Grain passes absl flags to its workers, and fails if nobody has parsed them.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])
