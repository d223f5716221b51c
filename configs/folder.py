"""DANet on your own images: a folder of images, one of labels, and a list of classes.

    python main.py prepare --config=configs/folder.py:classes=5 --source=MY_FOLDER
    python main.py train --config=configs/folder.py:classes=5,runlocal --workdir=runs/mine

MY_FOLDER holds images/train, images/val, labels/train, labels/val and classes.txt (a name on each
line) or classes.json; README.md says more. Images of any size are trained on at short sides round
520 pixels (512 in recipe=mmseg, 240 in runlocal), and evaluated and predicted at that side.
Arguments: those of configs/recipes.py; `classes`, how many there are; and `name`, where you have
several such data sets. Here: not run.
"""

import ml_collections

from danet_jax.configs import recipes

ARGUMENTS = recipes.ARGUMENTS | {
    "classes": recipes.Argument("how many there are; those of the data set where it is left out"),
    "name": recipes.Argument("of the data set, where you have several such folders"),
}


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """Returns the experiment."""
    arguments = recipes.parse(argument, ARGUMENTS)
    name, classes = arguments["name"], arguments["classes"]
    data_set = recipes.DataSet(
        name=f"folder/{name}" if name else "folder",
        num_classes=recipes.positive("classes", classes) if classes else None,
        original=recipes.Schedule(0.003, batch_size=8, crop=(480, 480), base_size=520, epochs=240),
        mmseg=recipes.Schedule(0.01, batch_size=8, crop=(512, 512), base_size=512, steps=20_000),
        evaluation="whole",
        local_split="val",
    )
    return recipes.create(data_set, arguments)
