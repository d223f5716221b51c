"""DANet on COCO-Stuff 10k, version 1.1 (9000 training and 1000 validation images, 171 classes).

    python main.py prepare --config=configs/coco_stuff_10k.py --source=cocostuff-10k-v1.1
    python main.py train --config=configs/coco_stuff_10k.py --workdir=runs/coco_stuff_10k \
        --config.model.pretrained_backbone=resnet101.pth

Arguments: those of configs/recipes.py.

Published mean IoU of the original's recipe: ResNet-50 37.2, ResNet-101 39.7 (paper, which does not
say at which scales; its code's --multi-scales are
--config.eval.scales=0.5,0.75,1.0,1.25,1.5,1.75,2.0,2.2). mmsegmentation publishes none. Here: not
run.
"""

import ml_collections

from danet_jax.configs import recipes

DATA_SET = recipes.DataSet(
    name="coco_stuff_10k",
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
