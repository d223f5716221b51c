"""The builder of a data set that is made of image files and label files."""

import abc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from danet_jax.base.errors import OF_ITS_FOLDERS, DataError, unreadable_file
from danet_jax.input_pipeline.builders import shards
from danet_jax.input_pipeline.builders.splits import problem_of
from danet_jax.input_pipeline.checking import diagnosis, reading, summary, verification
from danet_jax.input_pipeline.checking.pairs import Observation, Pair, Picture
from danet_jax.input_pipeline.checking.survey import Survey
from danet_jax.input_pipeline.labels import Labels


def info(builder: tfds.core.DatasetBuilder, labels: Labels | None) -> tfds.core.DatasetInfo:
    """Describes an example to TFDS: an encoded image, an encoded map of train ids, a name.

    `labels` is None if the source itself names the classes; they are then added when it is read.
    """
    return tfds.core.DatasetInfo(
        builder=builder,
        description=builder.__doc__,
        features=tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            }
        ),
        metadata=tfds.core.MetadataDict({} if labels is None else labels.to_json()),
        # Records keep the order in which the pairs are listed.
        disable_shuffling=True,
    )


class FilesBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Checks every file, converts labels to train ids, and writes shard after shard.

    Shards that an interrupted preparation has written are reused by the next one. A subclass gives
    `name`, `VERSION`, MANUAL_DOWNLOAD_INSTRUCTIONS (what the source folder is), `labels`, `id_map`
    and `find_pairs`, and overrides what else differs.
    """

    # TFDS 4.9.10 would otherwise look for these through importlib_resources, which nothing
    # installs.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    labels: Labels | None
    # `id_map` maps the raw ids of label files to train ids, or to 255 for ignored pixels; any other
    # id is an error.
    id_map: Mapping[int, int]
    # `counts` are the published numbers of examples; a different number is a warning.
    counts: ClassVar[Mapping[str, int]] = {}
    # Some photographs from the web are grey.
    grey_images: ClassVar[bool] = False
    # `advice` says what a person can do about labels whose ids are not in `id_map`.
    advice: ClassVar[str] = "give the files as they are distributed"
    # `reading` holds, as plain values, what else in the source decides how files are read.
    reading: object = None

    def __init__(
        self,
        *,
        storage: str = "original",
        splits: Sequence[str] = (),
        start_progress: Callable[[int], Callable[[int], None]] | None = None,
        **options: Any,
    ):
        """Takes the options of TFDS's builders, too.

        All `splits` have to be in the source. `start_progress` takes the total number of pairs and
        returns a function that advances a progress bar.
        """
        self._storage = storage
        self._asked = splits
        self._start_progress = start_progress or (lambda total: lambda count: None)
        self.survey: Survey | None = None
        # These files beside the images are no images, and no mistake either.
        self.left_out: list[str] = []
        super().__init__(**options)

    @abc.abstractmethod
    def find_pairs(self, source: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        """Returns the pairs of each split, and a sentence for each missing or faulty thing."""

    def read_classes(self, source: Path) -> None:
        """Sets `labels` and `id_map` if the source names them; a DataError if it cannot."""
        del source

    def read_label(self, pair: Pair) -> np.ndarray:
        """Reads the raw ids [h, w] of a pair; a LabelError if its file holds none."""
        assert pair.label is not None
        return reading.read_label(pair.label)

    def read_palette(self, pair: Pair) -> bytes:
        """Returns red, green, blue of each id of a pair's label, b"" if there are none.

        The palettes of a data set that is distributed as files are not compared.
        """
        del pair
        return b""

    def read_image(self, pair: Pair) -> Picture:
        """Reads the image of a pair as it will be stored; a DataError if there is none."""
        return reading.read_image(pair)

    def _info(self) -> tfds.core.DatasetInfo:
        return info(self, self.labels)

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager):
        source = Path(dl_manager.manual_dir)
        self.read_classes(source)
        assert self.labels is not None, "read_classes sets what the class leaves open"
        self.info.metadata.update(self.labels.to_json())
        try:
            splits, problems = self.find_pairs(source)
        except DataError as error:
            splits, problems = {}, [str(error)]
        except OSError as error:
            problem = unreadable_file(error, needed=OF_ITS_FOLDERS)
            splits, problems = {}, [f"{error.filename}: {problem}"]
        survey = Survey(self.labels, self.id_map, expected=self.counts)
        survey.left_out = self.left_out
        survey.problems.extend(problems or self._missing(splits) or _unreadable_names(splits))
        self.survey = survey
        # Whatever is missing as a whole is reported at once, before any file is read.
        diagnosis.raise_errors(survey, self.name, source, advice=self.advice)
        check = verification.Check(
            source,
            self.id_map,
            colors=self.labels.colors,
            read_label=self.read_label,
            read_palette=self.read_palette,
            read_image=self.read_image,
            reading=self.reading,
            grey_images=self.grey_images,
            storage=self._storage,
        )
        advance = self._start_progress(sum(len(pairs) for pairs in splits.values()))

        def observe(split: str, observation: Observation) -> None:
            survey.add(split, observation)
            advance(1)

        return {
            split: [
                shards.Shard(f"{split}-{index:05d}", part, check, observe, self._writer)
                for index, part in enumerate(shards.divide(pairs))
            ]
            for split, pairs in splits.items()
            if pairs
        }

    def _missing(self, splits: Mapping[str, Sequence[Pair]]) -> list[str]:
        counts = {name: len(pairs) for name, pairs in splits.items() if pairs}
        source = str(self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        problems = (problem_of(split, counts, source=source) for split in self._asked)
        return [problem for problem in dict.fromkeys(problems) if problem]

    def _example_writer(self) -> tfds.core.ExampleWriter:
        self._writer = shards.ResumableWriter(self.partial_folder)
        return self._writer

    @property
    def partial_folder(self) -> Path:
        """The folder of the shards of a data set that is not complete."""
        # While it prepares, TFDS works in a temporary folder beside the final one.
        return Path(self.data_path).parent / f".partial-{self.version}"

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        assert self.survey is not None, "it is made with the shards"
        source = Path(dl_manager.manual_dir)
        diagnosis.raise_errors(self.survey, self.name, source, advice=self.advice)
        summary.write(self.survey, Path(self.data_path))


def _unreadable_names(splits: Mapping[str, Sequence[Pair]]) -> list[str]:
    """Returns a sentence for each file name that is not valid text, as in old archives."""
    pairs = (pair for pairs in splits.values() for pair in pairs)
    files = (file for pair in pairs for file in (pair.image, pair.label))
    return [
        f"{os.fsencode(file.name)!r} in {file.parent}: its name is not UTF-8; rename it"
        for file in files
        if file is not None and not _is_text(str(file))
    ]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
