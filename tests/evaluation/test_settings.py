"""`config.eval` as the predictor's arguments."""

import pytest

from configs import common
from danet_jax.errors import UserError
from danet_jax.evaluation.settings import (
    PRESETS,
    check_overrides,
    describe,
    predictor_options,
    resolved,
)


def eval_config(**fields):
    config = common.get_config().eval
    config.update(fields)
    return config


def test_by_default_images_are_whole():
    assert predictor_options(eval_config()) == {
        "mode": "whole",
        "crop_size": None,
        "base_size": None,
        "scales": (1.0,),
        "flip": False,
        "merge": "softmax",
        "batch_size": None,
    }


def test_a_preset_sets_what_it_names():
    single = predictor_options(eval_config(preset="single", crop_size=5, window_batch=8))
    assert single == PRESETS["single"] | {"batch_size": 8}
    augmented = predictor_options(
        eval_config(preset="mmseg-ms", mode="slide", crop_size=769, merge="original")
    )
    assert augmented["mode"] == "slide"
    assert augmented["crop_size"] == 769
    assert augmented["merge"] == "softmax"
    assert augmented["scales"] == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def test_the_original_of_several_scales():
    options = predictor_options(eval_config(preset="multi"))
    assert (options["base_size"], options["crop_size"]) == (2048, 1024)
    assert options["scales"] == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2)


def test_a_short_side_goes_to_the_predictor_and_not_beside_a_presets_size():
    fields = {"short_side": 512, "base_size": 2048}
    options = predictor_options(eval_config(**fields))
    assert (options["short_side"], options["base_size"]) == (512, 2048)
    options = predictor_options(eval_config(**fields, preset="mmseg-ms"))
    assert (options["short_side"], options["base_size"]) == (512, 2048)
    single = eval_config(**fields, preset="single")
    assert "short_side" not in predictor_options(single)
    with pytest.raises(UserError, match="preset 'single' sets that field"):
        check_overrides(single, ["--config.eval.short_side=512"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"short_side": -1}, "config.eval.short_side is -1; give 0 or more"),
        ({"preset": "mutli"}, "config.eval.preset is 'mutli'"),
        ({"mode": "slide"}, "set config.eval.crop_size"),
        ({"scales": ()}, "config.eval.scales is ()"),
        ({"scales": (1.0, -1.0)}, "give numbers above 0"),
        ({"window_batch": -1}, "config.eval.window_batch is -1; give 0 or more"),
    ],
)
def test_values_that_are_none(fields, says):
    with pytest.raises(UserError) as caught:
        predictor_options(eval_config(**fields))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "whole image, scale 1, softmax"),
        (
            {"preset": "multi"},
            "windows of 1024×1024, long side 2048, scales 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.2, "
            "mirrored, original",
        ),
        (
            {"short_side": 512, "base_size": 2048},
            "whole image, short side 512 (long side at most 2048), scale 1, softmax",
        ),
        ({"short_side": 512}, "whole image, short side 512, scale 1, softmax"),
        ({"base_size": 300, "scales": (0.5,)}, "whole image, long side 300, scale 0.5, softmax"),
    ],
)
def test_settings_in_a_line(fields, expected):
    assert describe(resolved(eval_config(**fields))) == expected


def test_a_field_of_the_preset_is_not_changed_in_vain():
    config = eval_config(preset="single", mode="whole")
    with pytest.raises(
        UserError, match=r"the preset 'single' sets that field. Give --config.eval.p"
    ):
        check_overrides(config, ["--config.train.epochs=1", "--config.eval.mode=whole"])
    check_overrides(config, ["--config.eval.batch_size=2"])
    check_overrides(eval_config(mode="whole"), ["--config.eval.mode=whole"])


def test_a_long_side_beside_a_short_one_says_which_counts():
    config = eval_config(short_side=520, base_size=640)
    with pytest.raises(UserError, match="short_side=0 besides"):
        check_overrides(config, ["--config.eval.base_size=640"])
    check_overrides(config, ["--config.eval.base_size=640", "--config.eval.short_side=520"])
    check_overrides(eval_config(short_side=0, base_size=640), ["--config.eval.base_size=640"])
    check_overrides(eval_config(short_side=520, base_size=2080), ["--config.eval.flip=True"])
