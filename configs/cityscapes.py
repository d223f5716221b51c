"""DANet on Cityscapes (2975 training and 500 validation images of 2048x1024, 19 classes).

    python main.py prepare --config=configs/cityscapes.py --source=CITYSCAPES_FOLDER
    python main.py train --config=configs/cityscapes.py --workdir=runs/cityscapes \
        --config.model.pretrained_backbone=resnet101.pth
    python main.py eval --workdir=runs/cityscapes --config.eval.preset=multi

The original's recipe (v0.5.0): ResNet-101 with multi-grid, 240 epochs. Published: mean IoU 79.93 at
one scale, 81.49 at several with mirror images. Here: not run.
"""

import ml_collections

from configs import common

TRAINING_IMAGES = 2975


def get_config() -> ml_collections.ConfigDict:
    """Returns the experiment."""
    config = common.get_config()
    config.data.name = "cityscapes"
    config.eval.preset = "single"
    config.train.eval_every = 10 * TRAINING_IMAGES // config.train.batch_size
    config.train.checkpoint_every = config.train.eval_every
    return config
