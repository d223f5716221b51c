"""`prepare`: writes a data set to disk, and a page that shows what is in it."""

import argparse

from danet_jax import input_pipeline
from danet_jax.base.texts import show
from danet_jax.base.wording import counted
from danet_jax.configs import rules
from danet_jax.console.terminal import say
from danet_jax.runs import config as configuration


def run(args: argparse.Namespace) -> None:
    config = configuration.load_config(args.config, args.overrides)
    rules.check(config)
    # JAX is imported after what can be checked without it.
    from danet_jax.evaluation.eval_config import settings_of
    from danet_jax.tasks import doubts

    # A faulty evaluation is refused before the work.
    settings = settings_of(config.eval)
    data = config.data
    counts = input_pipeline.prepare(
        data.name,
        data_dir=data.data_dir,
        source=args.source,
        storage=args.storage,
        splits=(data.train_split, data.eval_split),
    )
    labels = input_pipeline.labels_of(data.name, data_dir=data.data_dir)
    if config.model.num_classes not in (None, labels.num_classes):
        say(
            f"warning: {data.name} has {counted(labels.num_classes, 'class', 'classes')}, but "
            f"config.model.num_classes is {config.model.num_classes}: correct it before training"
        )
    train_split, eval_split = (
        input_pipeline.open_split(data.name, name, data_dir=data.data_dir)
        for name in (data.train_split, data.eval_split)
    )
    for doubt in [
        *doubts.doubts(config, settings, eval_split.sizes()),
        *doubts.doubts_on_splits(train_split, eval_split),
    ]:
        say(f"warning: {doubt}")
    # Matplotlib is imported here, since that takes longer than finding a mistake in the source.
    from danet_jax.tasks.dataset_pages import write_survey

    page = write_survey(data)
    splits = ", ".join(f"{count} {split}" for split, count in counts.items())
    examples = "example" if list(counts.values()) == [1] else "examples"
    show(f"{data.name} is prepared in {data.data_dir}: {splits} {examples}; look at {page}")
