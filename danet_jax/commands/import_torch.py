"""`import-torch`: a workdir from PyTorch's weights, to evaluate, predict and train on with."""

import argparse

import input_pipeline
from danet_jax import experiment
from danet_jax.errors import UserError
from danet_jax.interop import torch_files, torch_weights
from danet_jax.models.danet import create_model
from danet_jax.training import train as training
from danet_jax.training.state import init_variables


def run(args: argparse.Namespace) -> None:
    config = experiment.load_config(args.config, args.overrides)
    training.check_config(config)
    labels = input_pipeline.labels_of(config.data.name)
    experiment.check_evaluation(config, labels.num_classes)
    if experiment.has_checkpoint(args.workdir) and not args.fresh:
        raise UserError(
            f"{args.workdir} holds a run already. Name another --workdir, or give --fresh, which "
            "moves the old run aside."
        )
    model = create_model(config.model)
    weights = torch_weights.convert(
        torch_files.read_state_dict(args.checkpoint),
        model,
        initial=lambda: init_variables(model, config.seed),
        allow_partial=args.allow_partial,
    )
    source = torch_weights.describe(weights, args.checkpoint)

    with experiment.opened(config, args.workdir, fresh=args.fresh, labels=labels):
        training.save_start(config, args.workdir, weights.variables)
        experiment.write_weights(args.workdir, source)
    print(f"{weights.count} arrays under {weights.naming} names are in {args.workdir}")
    if weights.reinitialized:
        print("of another number of classes, so random until trained:")
        print("\n".join(f"  {name}" for name in weights.reinitialized))
    if weights.skipped:
        print("skipped, as --allow-partial allows; what is missing is random until trained:")
        print("\n".join(f"  {problem}" for problem in weights.skipped))
