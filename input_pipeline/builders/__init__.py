"""The data sets that can be prepared: name, builder, class names, class colours."""

from typing import NamedTuple

import tensorflow_datasets as tfds

from input_pipeline.builders import camvid, cityscapes, synthetic_scenes
from input_pipeline.labels import Labels


class DataSet(NamedTuple):
    """A builder, and what its label ids mean."""

    builder: type[tfds.core.GeneratorBasedBuilder]
    labels: Labels


DATA_SETS = {
    "camvid": DataSet(camvid.CamVid, Labels(camvid.NAMES, camvid.COLORS)),
    "cityscapes": DataSet(
        cityscapes.Cityscapes,
        Labels(cityscapes.NAMES, cityscapes.COLORS, cityscapes.LABEL_IDS),
    ),
    "synthetic_scenes": DataSet(
        synthetic_scenes.SyntheticScenes, Labels(synthetic_scenes.NAMES, synthetic_scenes.COLORS)
    ),
}
