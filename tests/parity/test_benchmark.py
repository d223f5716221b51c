"""All participants of a benchmark compute the same."""

import numpy as np
import pytest

from benchmarks import cases, jax_cases, torch_cases
from danet_jax.configs import cityscapes
from tests.training.tiny import tiny_config

SIZE = (33, 49)


def workload(participant, config, what, case):
    cases_of = jax_cases if participant.framework == "danet-jax" else torch_cases
    return cases_of.BUILDERS[what](config, case, participant.variant)


@pytest.mark.parametrize("attention", [("position", "channel"), ("channel",), ()])
def test_steps_of_training_have_the_same_losses(attention, light_compilation):
    config = tiny_config(attention=attention, auxiliary_head=True, dropout_rate=0.0)
    (group,) = cases.groups(config, "train", ("torch",), sizes=(SIZE,), batch=8)
    losses = []
    for participant in group.participants:
        step = workload(participant, config, "train", group.cases[0])
        losses.append([step.call() for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[0][2] != losses[0][0]


def test_labels_are_the_same(light_compilation):
    config = tiny_config()
    (group,) = cases.groups(config, "infer", ("torch",), sizes=(SIZE,), batch=1)
    ours_sum, theirs = (
        workload(participant, config, "infer", group.cases[0]).call()
        for participant in group.participants
    )
    assert 0 < ours_sum == theirs


@pytest.mark.parametrize("what", ["attention", "conv", "loss"])
def test_parts_compute_the_same(what, light_compilation):
    config = tiny_config()
    for group in cases.groups(config, what, ("torch",), sizes=(SIZE,), batch=2):
        for case in group.cases:
            computed = {
                participant.name: workload(participant, config, what, case).arrays()
                for participant in group.participants
                # One method of convolution: each is another compilation.
                if what != "conv"
                or participant.framework == "torch"
                or participant.variant == "auto"
            }
            assert len(computed) == {"attention": 4, "conv": 2, "loss": 3}[what]
            expected, *others = computed.values()
            assert all(np.abs(array).max() > 1e-6 for array in expected)
            for arrays in others:
                for array, wanted in zip(arrays, expected, strict=True):
                    largest = np.abs(wanted).max()
                    np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-5 * largest)


def test_mmsegmentations_network_trains_and_predicts():
    config = cityscapes.get_config("recipe=mmseg,backbone=resnet50")
    for what, batch in (("train", 2), ("infer", 1)):
        (group,) = cases.groups(config, what, ("mmseg",), sizes=((65, 65),), batch=batch)
        assert (
            0 < workload(group.participants[-1], config, what, group.cases[0]).call() < 65 * 65 * 19
        )
