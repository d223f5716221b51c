"""DANet on PASCAL VOC 2012 (21 classes, 1449 validation images), by default with SBD's labels.

    python main.py prepare --config=configs/pascal_voc.py --source=VOCdevkit
    python main.py train --config=configs/pascal_voc.py --workdir=runs/voc \
        --config.model.pretrained_backbone=resnet101.pth

Arguments: those of configs/recipes.py, and `split=trainaug` (default: the 10582 images of VOC's
train and SBD that are not in val) or `split=train` (1464 images).

Published mean IoU. recipe=mmseg, 40k steps, val at short side 512: ResNet-50 76.37 (77.29 with
--config.eval.preset=mmseg-ms), ResNet-101 76.51 (77.32) (mmsegmentation's model zoo). The paper has
82.6 on the test set alone (ResNet-101), whose labels its server keeps. Here: not run.
"""

import dataclasses

import ml_collections

from danet_jax.configs import recipes

AUGMENTED = recipes.DataSet(
    name="pascal_voc",
    num_classes=21,
    # The rule of the original is 0.001 at batch 8; crop and base size are its defaults (v0.5.0,
    # danet/option.py).
    original=recipes.Schedule(0.002, batch_size=16, crop=(576, 576), base_size=608, epochs=240),
    mmseg=recipes.Schedule(0.01, batch_size=16, crop=(512, 512), base_size=512, steps=40_000),
)
PLAIN = dataclasses.replace(
    AUGMENTED,
    # The rate is a tenth of that, as the original fine-tunes on the labels of VOC itself.
    original=dataclasses.replace(AUGMENTED.original, learning_rate=0.0002),
)
ARGUMENTS = recipes.ARGUMENTS | {
    "split": recipes.Argument(
        "trainaug (default: the 10582 images of VOC's train and SBD that are not in val) or train "
        "(1464 images)",
        "trainaug",
    )
}


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """Returns the experiment."""
    arguments = recipes.parse(argument, ARGUMENTS)
    augmented = recipes.choose(arguments, "split", ("trainaug", "train")) == "trainaug"
    config = recipes.create(AUGMENTED if augmented else PLAIN, arguments)
    config.data.train_split = "train+sbd" if augmented else "train"
    return config
