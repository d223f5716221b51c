"""The rules of configs hold the names that the modules hold, without importing them."""

import subprocess
import sys

import pytest

from danet_jax.base.errors import UserError
from danet_jax.configs import common, rules
from danet_jax.models.attention import CHANNEL_ENERGIES
from danet_jax.models.danet import ATTENTIONS
from danet_jax.models.resnet import RESNETS, STRIDES_AND_DILATIONS
from danet_jax.ops.implementation import RECOMPUTATIONS, WEIGHT_GRADIENTS
from danet_jax.training import losses
from tests.launcher import ROOT


def test_names_are_those_of_the_modules():
    choices = rules._CHOICES
    assert {name: blocks[3] for name, (_, blocks) in RESNETS.items()} == rules.LAYER_4_BLOCKS
    assert tuple(STRIDES_AND_DILATIONS) == choices["output_stride"]
    assert choices["channel_energy"] == CHANNEL_ENERGIES
    assert choices["remat"] == ("auto", *RECOMPUTATIONS)
    assert choices["conv_weight_gradient"] == ("auto", *WEIGHT_GRADIENTS)
    assert rules.ATTENTIONS == ATTENTIONS
    assert rules.LOSSES == losses.LOSSES
    assert rules.PIXEL_LOSSES == losses.PIXEL_LOSSES


def test_the_rules_do_not_wait_for_jax():
    code = (
        "import sys, danet_jax.configs.rules, danet_jax.configs.common; print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


USELESS = [
    ({"optimizer.min_learning_rate": 0.5}, "min_learning_rate is 0.5, above the config.optimizer"),
    ({"optimizer.warmup": 1.0}, "config.optimizer.warmup is 1.0; give 0 to below 1"),
    ({"optimizer.schedule": "step"}, "config.optimizer.schedule"),
    (
        {"optimizer.schedule": "constant", "optimizer.min_learning_rate": 1e-4},
        "to which a rate with the schedule 'constant' never falls",
    ),
    ({"optimizer.learning_rate": float("inf")}, "config.optimizer.learning_rate is inf"),
    ({"train.clip_norm": float("nan")}, "config.train.clip_norm is nan; give finite numbers"),
    ({"data.crop_size": (32.5, 32)}, r"config.data.crop_size is \(32.5, 32\); give whole numbers"),
    ({"data.crop_size": (0, 32)}, r"config.data.crop_size is \(0, 32\); give whole numbers"),
    ({"data.scale_range": (0.5, float("inf"))}, "config.data.scale_range is"),
    ({"loss.class_weights": (0.0,) * 19}, "at least one above 0"),
    ({"loss.class_weights": (float("inf"),) * 19}, "config.loss.class_weights is .*finite"),
    (
        {f"loss.{name}_weight": 0.0 for name in ("fused", "position", "channel")},
        "loss.fused_weight, config.loss.position_weight.*nothing is learnt",
    ),
    (
        {"loss.name": "tversky", "loss.tversky_alpha": 0.0, "loss.tversky_beta": 0.0},
        "are both 0, so that no mistake counts",
    ),
    ({"loss.added": "dice", "loss.added_weight": 0.0}, "added_weight is 0: give a weight"),
    ({"loss.name": "focal", "loss.normalization": "all"}, "which only cross_entropy knows"),
    ({"eval.batch_size": 0}, "config.eval.batch_size is 0; give 1 or more"),
]


@pytest.mark.parametrize(("fields", "says"), USELESS)
def test_values_that_train_nothing_or_do_nothing_are_refused(fields, says):
    config = common.get_config()
    rules.check(config)
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    with pytest.raises(UserError, match=says):
        rules.check(config)


def test_an_added_loss_that_knows_the_normalization_will_do():
    config = common.get_config()
    config.loss.update(
        {"name": "dice", "added": "cross_entropy", "added_weight": 1.0, "normalization": "all"}
    )
    rules.check(config)
    config.loss.added = "focal"
    with pytest.raises(UserError, match="which only cross_entropy knows"):
        rules.check(config)
