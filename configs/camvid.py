"""DANet on CamVid (SegNet's split: 367 training, 101 validation and 233 test images of 480x360).

    python main.py prepare --config=configs/camvid.py --source=CAMVID_FOLDER
    python main.py train --config=configs/camvid.py --workdir=runs/camvid

Arguments: those of configs/recipes.py. Neither recipe has a published number on this data set.

Here: the recipes were not run. `configs/camvid.py:runlocal`, a narrow ResNet-18 on small crops for
a laptop's CPU from random weights, takes minutes on 2 cores: mean IoU 0.228 after training on 92
and validating on 26 of the images.
"""

import ml_collections

from danet_jax.configs import recipes

DATA_SET = recipes.DataSet(
    name="camvid",
    num_classes=11,
    original=recipes.Schedule(0.003, batch_size=8, crop=(360, 360), base_size=360, epochs=240),
    mmseg=recipes.Schedule(0.01, batch_size=8, crop=(360, 480), base_size=360, steps=20_000),
    evaluation="whole",
    image_size=(360, 480),
    local_split="val",
)
ARGUMENTS = recipes.ARGUMENTS


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """Returns the experiment."""
    return recipes.create(DATA_SET, recipes.parse(argument, ARGUMENTS))
