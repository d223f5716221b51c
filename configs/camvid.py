"""DANet on CamVid (SegNet's split: 367 training, 101 validation and 233 test images of 480x360).

    python main.py prepare --config=configs/camvid.py --source=CAMVID_FOLDER
    python main.py train --config=configs/camvid.py --workdir=runs/camvid

With the original's recipe: not run. `configs/camvid.py:runlocal` is a narrow ResNet-18 on small
crops for a laptop's CPU, from random weights: minutes on 2 cores, mean IoU 0.228 after training on
92 and validating on 26 of the images.
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
        config.model.width = 16
        config.model.multi_grid = ()
        config.data.crop_size = (128, 128)
        config.data.base_size = 240
        config.train.steps = 400
        config.train.log_every = 10
        config.train.eval_every = 50
        config.train.checkpoint_every = 50
        config.optimizer.learning_rate = 0.02
    return config
