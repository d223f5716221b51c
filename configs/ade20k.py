"""DANet on ADE20K (20210 training and 2000 validation images, 150 classes).

    python main.py prepare --config=configs/ade20k.py --source=ADEChallengeData2016
    python main.py train --config=configs/ade20k.py --workdir=runs/ade20k \
        --config.model.pretrained_backbone=resnet101.pth

Arguments: those of configs/recipes.py.

Published mean IoU. The original publishes none. recipe=mmseg, 160k steps, short side 512:
ResNet-50 42.45 (43.25 with --config.eval.preset=mmseg-ms), ResNet-101 44.17 (45.02)
(mmsegmentation's model zoo). Here: not run.
"""

import ml_collections

from danet_jax.configs import recipes

DATA_SET = recipes.DataSet(
    name="ade20k",
    num_classes=150,
    # The rule of the original is 0.01 at batch 8; crop and base size are its defaults (v0.5.0,
    # danet/option.py).
    original=recipes.Schedule(0.02, batch_size=16, crop=(576, 576), base_size=608, epochs=240),
    mmseg=recipes.Schedule(0.01, batch_size=16, crop=(512, 512), base_size=512, steps=160_000),
)
ARGUMENTS = recipes.ARGUMENTS


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """Returns the experiment."""
    return recipes.create(DATA_SET, recipes.parse(argument, ARGUMENTS))
