"""The shapes of the JSON files in a prepared data set, ours and those of TFDS."""

from pathlib import Path

from danet_jax.base import shapes
from danet_jax.base.errors import DataError
from danet_jax.base.json_files import is_there, read_json

ADVICE = (
    "Repair it, or restore it from a copy; or prepare the data set again under another "
    "config.data.data_dir."
)
# TFDS writes counts as texts of digits.
_DIGITS = shapes.matching("[0-9]{1,15}", 'a count as text, "8"')
# TFDS formats it with these names alone.
_TEMPLATE = shapes.matching(
    r"([^{}/]|\{(DATASET|SPLIT|FILEFORMAT|SHARD_INDEX|NUM_SHARDS|SHARD_X_OF_Y)\})+",
    'a template of file names, "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"',
)

LABELS = shapes.fields(
    {
        "names": shapes.list_of(shapes.text),
        "colors": shapes.list_of(shapes.list_of(shapes.whole(0, 255), least=3, most=3)),
        "raw_ids": shapes.list_of(shapes.whole(0, 2**24)),
    }
)
_DATASET_INFO = shapes.fields(
    {"name": shapes.text, "version": shapes.text},
    {
        "fileFormat": shapes.text,
        "splits": shapes.list_of(
            shapes.fields(
                {"name": shapes.text, "shardLengths": shapes.list_of(_DIGITS)},
                {"numBytes": _DIGITS, "filepathTemplate": _TEMPLATE},
            )
        ),
    },
)
# TFDS imports the classes that it names.
_CLASS = shapes.matching(r"tensorflow_datasets\.[\w.]+", "a class of tensorflow_datasets")
_FEATURES = shapes.fields(
    {
        "pythonClassName": _CLASS,
        "featuresDict": shapes.fields(
            {"features": shapes.map_of(shapes.fields({"pythonClassName": _CLASS}))}
        ),
    }
)
_OF_TFDS = {"dataset_info.json": _DATASET_INFO, "features.json": _FEATURES}


def check_before_tfds(folder: Path) -> None:
    """Raises a DataError for a file on which TFDS would fail, or for which it would wait."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    for name, shape in _OF_TFDS.items():
        if not is_there(folder / name):
            raise DataError(f"{folder / name} is missing. {ADVICE}")
        read_json(folder / name, shape, error=DataError, advice=ADVICE)
