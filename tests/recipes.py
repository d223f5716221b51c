"""An experiment's recipe, as `train` says it."""

import danet_jax
from danet_jax.configs import common
from danet_jax.evaluation.eval_config import settings_of
from danet_jax.network import abstract_variables
from danet_jax.tasks.recipe import describe_recipe


def recipe_of(config, *, total_steps, **options):
    config = config.copy_and_resolve_references()
    common.complete_intervals(config, total_steps)
    params = abstract_variables(danet_jax.create_model(config.model))["params"]
    settings = settings_of(config.eval)
    return describe_recipe(config, params, settings, total_steps=total_steps, **options)
