"""DANet on Cityscapes (2975 training and 500 validation images of 2048x1024, 19 classes).

    python main.py prepare --config=configs/cityscapes.py --source=CITYSCAPES_FOLDER
    python main.py train --config=configs/cityscapes.py --workdir=runs/cityscapes \
        --config.model.pretrained_backbone=resnet101.pth
    python main.py eval --workdir=runs/cityscapes --config.eval.preset=multi

Arguments: those of configs/recipes.py, and `coarse`, which trains on the 19998 coarsely labelled
images, too.

Published mean IoU. Original's recipe, ResNet-101: 79.93 at one scale, 81.49 at several
(--config.eval.preset=multi), both with mirror images (original's README). recipe=mmseg, 40k steps
at crop=512x1024: ResNet-50 78.74, ResNet-101 80.52; crop=769, 80k steps: 79.27 and 80.47
(mmsegmentation's model zoo). Here: not run.
"""

import dataclasses

import ml_collections

from danet_jax.configs import recipes

DATA_SET = recipes.DataSet(
    name="cityscapes",
    num_classes=19,
    original=recipes.Schedule(
        0.003,
        batch_size=8,
        crop=(768, 768),
        base_size=1024,
        epochs=240,
        rate_of_one_loss=0.01,
    ),
    mmseg=recipes.Schedule(0.01, batch_size=8, crop=(512, 1024), base_size=1024, steps=40_000),
    evaluation="single",
    image_size=(1024, 2048),
)
ARGUMENTS = recipes.ARGUMENTS | {
    "coarse": recipes.Argument("trains on the 19998 coarsely labelled images, too", is_flag=True)
}


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """Returns the experiment."""
    arguments = recipes.parse(argument, ARGUMENTS)
    data_set = DATA_SET
    if recipes.crop_of(arguments, (0, 0)) == (769, 769):
        longer = dataclasses.replace(DATA_SET.mmseg, steps=80_000)
        data_set = dataclasses.replace(data_set, mmseg=longer)
    config = recipes.create(data_set, arguments)
    if arguments["coarse"]:
        config.data.train_split = "train+train_extra"
    return config
