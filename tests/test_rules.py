"""The rules of configs hold the names that the modules hold, without importing them."""

import subprocess
import sys

from configs import rules
from danet_jax.models.attention import CHANNEL_ENERGIES
from danet_jax.models.danet import ATTENTIONS
from danet_jax.models.resnet import GEOMETRY, RESNETS
from danet_jax.ops.implementation import RECOMPUTATIONS, WEIGHT_GRADIENTS
from danet_jax.training import losses
from tests.launcher import ROOT


def test_names_are_those_of_the_modules():
    choices = rules._CHOICES
    assert {name: blocks[3] for name, (_, blocks) in RESNETS.items()} == rules.LAYER_4_BLOCKS
    assert tuple(GEOMETRY) == choices["output_stride"]
    assert choices["channel_energy"] == CHANNEL_ENERGIES
    assert choices["remat"] == ("auto", *RECOMPUTATIONS)
    assert choices["conv_weight_gradient"] == ("auto", *WEIGHT_GRADIENTS)
    assert rules.ATTENTIONS == ATTENTIONS
    assert rules.LOSSES == losses.LOSSES
    assert rules.PIXEL_LOSSES == losses.PIXEL_LOSSES


def test_the_rules_do_not_wait_for_jax():
    code = "import sys, configs.rules, configs.common; print('jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
