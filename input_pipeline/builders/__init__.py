"""The data sets that can be prepared, by name."""

import tensorflow_datasets as tfds

from danet_jax.input_pipeline.builders.ade20k import Ade20k
from danet_jax.input_pipeline.builders.camvid import CamVid
from danet_jax.input_pipeline.builders.cityscapes import Cityscapes
from danet_jax.input_pipeline.builders.coco_stuff_10k import CocoStuff10k
from danet_jax.input_pipeline.builders.coco_stuff_164k import CocoStuff164k
from danet_jax.input_pipeline.builders.folder import Folder
from danet_jax.input_pipeline.builders.pascal_context import PascalContext
from danet_jax.input_pipeline.builders.pascal_voc import PascalVoc
from danet_jax.input_pipeline.builders.synthetic_scenes import SyntheticScenes

DATA_SETS: dict[str, type[tfds.core.DatasetBuilder]] = {
    "ade20k": Ade20k,
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "coco_stuff_10k": CocoStuff10k,
    "coco_stuff_164k": CocoStuff164k,
    "folder": Folder,
    "pascal_context": PascalContext,
    "pascal_voc": PascalVoc,
    "synthetic_scenes": SyntheticScenes,
}
