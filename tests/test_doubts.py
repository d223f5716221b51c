"""An evaluation that does not fit its training is doubted in words that say what to do."""

import pytest

from danet_jax import input_pipeline
from danet_jax.evaluation.eval_config import settings_of
from danet_jax.runs.config import load_config
from danet_jax.tasks.doubts import doubts, doubts_on_splits
from tests.launcher import ROOT
from tests.recipes import recipe_of


def load(argument, *overrides):
    return load_config(f"{ROOT}/configs/folder.py:classes=3,{argument}", overrides)


OWN_SIZE = ("--config.eval.short_side=0", "--config.eval.base_size=0")


@pytest.mark.parametrize(
    ("overrides", "sizes", "says"),
    [
        (
            OWN_SIZE,
            {(3000, 4000): 9, (2000, 3000): 3, (400, 500): 8},
            ("12 of 20 images of val", "short side of 2000 to 3000 pixels", "draws 390 to 1040"),
        ),
        (OWN_SIZE, {(120, 160): 5}, ("5 of 5 images of val", "short side of 120 pixels")),
        (("--config.eval.scales=(4.0,)",), {(300, 400): 5}, ("short side of 2080 pixels",)),
        (
            ("--config.eval.preset=single",),
            {(1500, 1500): 2},
            ("short side of 2048", "Give --config.eval.preset= --config.eval.short_side=520"),
        ),
    ],
)
def test_images_at_another_scale_than_in_training(overrides, sizes, says):
    config = load("", *overrides)
    (doubt,) = doubts(config, settings_of(config.eval), sizes)
    for part in (*says, "--config.eval.short_side=520", "--config.eval.base_size=2080"):
        assert part in doubt


@pytest.mark.parametrize(
    ("overrides", "sizes"),
    [
        ((), {(3000, 4000): 9, (120, 160): 3}),
        # A quarter beyond what training draws, and one of many.
        (OWN_SIZE, {(1300, 1800): 3, (300, 400): 5}),
        (OWN_SIZE, {(3000, 4000): 1, (400, 500): 9}),
        # One of the scales is as in training.
        ((*OWN_SIZE, "--config.eval.scales=(0.25,1.0)"), {(3000, 4000): 1}),
        (OWN_SIZE, {}),
    ],
)
def test_what_is_near_is_not_doubted(overrides, sizes):
    config = load("", *overrides)
    assert doubts(config, settings_of(config.eval), sizes) == []


WIDE = "--config.model.multi_grid=(4,8,16)"


@pytest.mark.parametrize(
    ("crop", "overrides", "says"),
    [
        ("192x256", [WIDE], ("dilation 16", "24×32 features", "--config.model.multi_grid=()")),
        (
            "192x256",
            [WIDE, "--config.model.output_stride=16"],
            ("12×16 features", "--config.eval.mode=slide", "--config.eval.crop_size=256"),
        ),
        ("48", [], ("dilation 4 of", "6×6 features", "a larger config.data.crop_size")),
        (
            "192",
            [WIDE, "--config.eval.mode=slide", "--config.eval.crop_size=384"],
            ("dilation 16 of layer 4",),
        ),
    ],
)
def test_dilations_that_a_crop_has_no_room_for(crop, overrides, says):
    config = load(f"crop={crop}", *overrides)
    (doubt,) = doubts(config, settings_of(config.eval), {(480, 640): 3})
    for part in says:
        assert part in doubt
    # The recipe says it, too, and where the sizes are not known.
    assert recipe_of(config, num_images=9, total_steps=9)[10:] == [f"warning: {doubt}"]


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        ([], (480, 640)),
        # Nothing larger than a crop is looked at.
        ([WIDE, "--config.eval.mode=slide"], (480, 640)),
        ([WIDE, "--config.eval.base_size=256"], (480, 640)),
    ],
)
def test_dilations_that_meet_in_evaluation_what_they_met_in_training(overrides, size):
    config = load("crop=192x256", "--config.data.base_size=256", *overrides)
    assert doubts(config, settings_of(config.eval), {size: 3}) == []


@pytest.mark.parametrize(
    ("train", "evaluated", "says"),
    [
        ("train", "val", ()),
        ("train+val", "val", ("4 of 4 images of val are also in train+val",)),
        ("train[:6]", "train[4:]", ("2 of 4 images of train[4:] are also in train[:6]",)),
        ("train+train[:2]", "val", ("2 images of train+train[:2] come twice",)),
        ("train", "val+val", ("4 images of val+val come twice",)),
    ],
)
def test_images_that_are_trained_on_and_evaluated(train, evaluated, says, workplace):
    splits = (
        input_pipeline.open_split("camvid", name, data_dir=workplace.data)
        for name in (train, evaluated)
    )
    found = doubts_on_splits(*splits)
    assert len(found) == len(says)
    for text, part in zip(found, says, strict=True):
        assert text.startswith(part)
