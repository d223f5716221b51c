"""DANet on CamVid (SegNet's split: 367 training, 101 validation and 233 test images of 480x360).

    python main.py prepare --config=configs/camvid.py --source=CAMVID_FOLDER
    python main.py train --config=configs/camvid.py --workdir=runs/camvid

With the original's recipe: not run. `configs/camvid.py:runlocal` is a ResNet-18 on small crops for
a laptop's CPU, from random weights.
"""

import ml_collections

from configs import common


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """Returns the experiment; `argument` is "" or "runlocal"."""
    config = common.get_config()
    if argument not in ("", "runlocal"):
        raise ValueError(f"argument {argument!r}: it takes 'runlocal' or none")

    config.model.num_classes = 11
    config.data.name = "camvid"
    config.data.base_size = 360
    config.data.crop_size = (360, 360)
    config.train.batch_size = 8
    config.train.eval_every = 500
    config.train.checkpoint_every = 500

    if argument == "runlocal":
        config.model.backbone = "resnet18"
        config.model.width = 32
        config.model.multi_grid = ()
        config.data.crop_size = (128, 128)
        config.data.base_size = 180
        config.train.steps = 600
        config.train.log_every = 20
        config.train.eval_every = 200
        config.train.checkpoint_every = 100
        config.optimizer.learning_rate = 0.03
        config.optimizer.head_factor = 1.0
    return config
