"""Arguments of `import-torch` for a tiny model, and models beside it."""

import danet_jax

FIELDS = (
    "--config.model.backbone=resnet10",
    "--config.model.width=4",
    "--config.model.multi_grid=()",
)


def import_torch(file, workdir, *more):
    return (
        "import-torch",
        "--config=configs/camvid.py:runlocal",
        *FIELDS,
        f"--checkpoint={file}",
        f"--workdir={workdir}",
        *more,
    )


def other_model(config, **fields):
    changed = config.model.copy_and_resolve_references()
    changed.update(fields)
    return danet_jax.create_model(changed)
