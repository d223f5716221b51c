"""DANet on COCO-Stuff 164k (118287 training and 5000 validation images, 171 classes).

    python main.py prepare --config=configs/coco_stuff_164k.py --source=COCO_FOLDER
    python main.py train --config=configs/coco_stuff_164k.py --workdir=runs/coco_stuff_164k \
        --config.model.pretrained_backbone=resnet101.pth

Arguments: those of configs/recipes.py.

Neither recipe has a published number on this data set. Here: not run.
"""

import ml_collections

from danet_jax.configs import recipes

DATA_SET = recipes.DataSet(
    name="coco_stuff_164k",
    num_classes=171,
    # Crop and base size are the defaults of the original (v0.5.0, danet/option.py), and the epochs
    # are those of the paper. Neither gives a rate, so this is that of PASCAL Context.
    original=recipes.Schedule(0.002, batch_size=16, crop=(576, 576), base_size=608, epochs=180),
    mmseg=recipes.Schedule(0.01, batch_size=16, crop=(512, 512), base_size=512, steps=80_000),
)
ARGUMENTS = recipes.ARGUMENTS


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """Returns the experiment."""
    return recipes.create(DATA_SET, recipes.parse(argument, ARGUMENTS))
