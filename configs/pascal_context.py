"""DANet on PASCAL Context (4998 training and 5105 validation images of VOC 2010).

    python main.py prepare --config=configs/pascal_context.py --source=VOCdevkit
    python main.py train --config=configs/pascal_context.py --workdir=runs/context \
        --config.model.pretrained_backbone=resnet101.pth

Arguments: those of configs/recipes.py; `classes=59` (default: background is ignored) or
`classes=60` (background is a class); and the order of the classes, `order=alphabetical` (default,
the original's) or `order=voc_first`. Give the same ones to prepare, train and import-torch: weights
of one order are nonsense in the other.

Published mean IoU of the original's recipe, with background as a 60th class: ResNet-50 50.1,
ResNet-101 52.6 (paper, which does not say at which scales; its code's --multi-scales are
--config.eval.scales=0.5,0.75,1.0,1.25,1.5,1.75,2.0,2.2). mmsegmentation has no DANet for it;
recipe=mmseg is what it does on VOC, at this data set's usual crop and base size. Here: not run.
"""

import ml_collections

from danet_jax.configs import recipes

ARGUMENTS = recipes.ARGUMENTS | {
    "classes": recipes.Argument("59 (default), or 60 with the background", "59"),
    "order": recipes.Argument(
        "of the class ids: alphabetical (default) as in the original, or voc_first", "alphabetical"
    ),
}


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """Returns the experiment."""
    arguments = recipes.parse(argument, ARGUMENTS)
    classes = recipes.choose(arguments, "classes", ("59", "60"))
    order = recipes.choose(arguments, "order", ("alphabetical", "voc_first"))
    data_set = recipes.DataSet(
        name=f"pascal_context/{classes}_{order}",
        num_classes=int(classes),
        # The rule of the original is 0.001 at batch 8; crop and base size are its defaults (v0.5.0,
        # danet/option.py).
        original=recipes.Schedule(0.002, batch_size=16, crop=(576, 576), base_size=608, epochs=240),
        mmseg=recipes.Schedule(0.01, batch_size=16, crop=(480, 480), base_size=520, steps=40_000),
    )
    return recipes.create(data_set, arguments)
