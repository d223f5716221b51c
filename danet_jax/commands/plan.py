"""`plan`: what a training takes on chips that are not here."""

import argparse

from danet_jax.base.errors import UserError
from danet_jax.base.texts import show
from danet_jax.configs import rules
from danet_jax.planning import checks
from danet_jax.planning.chips import parse_topology
from danet_jax.runs import config as configuration


def run(args: argparse.Namespace) -> int:
    topologies = [parse_topology(text) for text in dict.fromkeys(args.topology)]
    config = configuration.load_config(args.config, args.overrides)
    if args.images is not None and args.images < 1:
        raise UserError(f"--images is {args.images}; give 1 or more.")
    rules.check(config)
    for topology in topologies:
        checks.check_compiler(topology)
        checks.check_divisible(config, topology)
    # JAX is imported after what can be checked without it.
    from danet_jax.planning import wording
    from danet_jax.tasks import plan as planning

    if args.output is not None:
        planning.check_place(args.output)
    plans = planning.plan(config, topologies, images=args.images, try_remedies=not args.no_remedies)
    planning.print_table(plans)
    for note in wording.notes(plans):
        show(note)
    if args.output is not None:
        show(f"plan: {planning.write(plans, config, args.output)}")
    return 0 if all(one.fits for one in plans) else 1
