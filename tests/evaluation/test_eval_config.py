"""`config.eval` as the predictor's arguments."""

import json

import pytest

from danet_jax.base.errors import UserError
from danet_jax.configs import common
from danet_jax.evaluation.eval_config import changed_options, settings_of
from danet_jax.evaluation.presets import PRESETS, check_changes, check_overrides
from danet_jax.evaluation.settings import InferenceSettings


def eval_config(**fields):
    config = common.get_config().eval
    config.update(fields)
    return config


def test_by_default_images_are_whole():
    assert settings_of(eval_config()) == InferenceSettings(
        mode="whole",
        crop_size=None,
        base_size=None,
        short_side=None,
        scales=(1.0,),
        flip=False,
        merge="softmax",
    )
    assert changed_options(eval_config(), {})["batch_size"] is None


def test_a_preset_sets_what_it_names():
    single = changed_options(eval_config(preset="single", crop_size=5, window_batch=8), {})
    assert single == PRESETS["single"] | {"short_side": None, "batch_size": 8}
    augmented = settings_of(
        eval_config(preset="mmseg-ms", mode="slide", crop_size=769, merge="original")
    )
    assert augmented.mode == "slide"
    assert augmented.crop_size == 769
    assert augmented.merge == "softmax"
    assert augmented.scales == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def test_the_original_of_several_scales():
    settings = settings_of(eval_config(preset="multi"))
    assert (settings.base_size, settings.crop_size) == (2048, 1024)
    assert settings.scales == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2)


def test_a_short_side_goes_to_the_predictor_and_not_beside_a_presets_size():
    fields = {"short_side": 512, "base_size": 2048}
    for preset in ("", "mmseg-ms"):
        settings = settings_of(eval_config(**fields, preset=preset))
        assert (settings.short_side, settings.base_size) == (512, 2048)
    single = eval_config(**fields, preset="single")
    assert settings_of(single).short_side is None
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
        ({"batch_size": 0}, "config.eval.batch_size is 0; give 1 or more"),
        ({"window_batch": -1}, "config.eval.window_batch is -1; give 0 or more"),
    ],
)
def test_values_that_are_none(fields, says):
    with pytest.raises(UserError) as caught:
        settings_of(eval_config(**fields))
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
    settings = settings_of(eval_config(**fields))
    assert settings.describe() == expected
    # A run's notes hold them as JSON.
    record = json.loads(json.dumps(settings.record()))
    assert InferenceSettings.of_record(record) == settings
    assert ("short_side" in record) == ("short_side" in fields)


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
    with pytest.raises(UserError, match="short_side=0 as well"):
        check_overrides(config, ["--config.eval.base_size=640"])
    check_overrides(config, ["--config.eval.base_size=640", "--config.eval.short_side=520"])
    check_overrides(eval_config(short_side=0, base_size=640), ["--config.eval.base_size=640"])
    check_overrides(eval_config(short_side=520, base_size=2080), ["--config.eval.flip=True"])


BESIDE = [
    (
        {"short_side": 520, "base_size": 2080},
        {"base_size": 640},
        "base_size=640: in config.eval short_side is 520, which sets the size that base_size only "
        "limits. Give short_side=None as well to use base_size alone, or short_side=520 to keep "
        "both.",
    ),
    (
        {"base_size": 640},
        {"short_side": 300},
        "short_side=300: in config.eval base_size is 640, which sets the size and would then only "
        "limit it. Give base_size=None as well to use short_side alone, or base_size=640 to "
        "keep both.",
    ),
    (
        {},
        {"crop_size": 64},
        "crop_size=64: mode is 'whole', which has no windows; give mode=slide as well.",
    ),
]


@pytest.mark.parametrize(("recorded", "changes", "says"), BESIDE)
def test_a_field_beside_one_that_gives_it_another_meaning(recorded, changes, says):
    """The library and the command line refuse the same, in the same words."""
    recorded = {"short_side": 0, "base_size": 0} | recorded
    with pytest.raises(UserError) as caught:
        changed_options(eval_config(**recorded), changes)
    assert str(caught.value).replace("'slide'", "slide") == says
    overrides = [f"--config.eval.{field}={value}" for field, value in changes.items()]
    with pytest.raises(UserError) as caught:
        check_overrides(
            eval_config(**recorded | changes), overrides, before=eval_config(**recorded)
        )
    spelled = str(caught.value).replace("--config.eval.", "").replace("=0 ", "=None ")
    assert spelled == says


@pytest.mark.parametrize(
    ("recorded", "changes", "expected"),
    [
        # Each way out that the messages name.
        ((520, 2080), {"base_size": 640, "short_side": None}, (None, 640)),
        ((520, 2080), {"base_size": 640, "short_side": 520}, (520, 640)),
        ((0, 640), {"short_side": 300, "base_size": None}, (300, None)),
        ((0, 640), {"short_side": 300, "base_size": 640}, (300, 640)),
        # What has one meaning alone.
        ((520, 2080), {"short_side": 300}, (300, 2080)),
        ((520, 2080), {"flip": True}, (520, 2080)),
        ((0, 640), {"base_size": 300}, (None, 300)),
        ((0, 640), {"short_side": None}, (None, 640)),
        ((0, 0), {"base_size": 300}, (None, 300)),
    ],
)
def test_changes_that_say_what_they_mean(recorded, changes, expected):
    sizes = ("short_side", "base_size")
    config = eval_config(**dict(zip(sizes, recorded, strict=True)))
    found = changed_options(config, changes)
    assert tuple(found.get(name) for name in sizes) == expected
    given = {name: value or 0 for name, value in changes.items()}
    after = eval_config(**dict(zip(sizes, recorded, strict=True)) | given)
    overrides = [f"--config.eval.{name}={value}" for name, value in given.items()]
    check_overrides(after, overrides, before=config)
    settings = settings_of(after)
    assert (settings.short_side, settings.base_size) == expected


def test_whole_images_of_a_run_of_windows():
    config = eval_config(mode="slide", crop_size=64)
    assert changed_options(config, {"mode": "whole"})["crop_size"] is None
    assert changed_options(config, {"crop_size": 32})["crop_size"] == 32
    with pytest.raises(UserError, match="give mode='slide' as well"):
        changed_options(config, {"mode": "whole", "crop_size": 32})


def test_without_a_preset_its_size_is_not_the_one_before():
    run = eval_config(preset="single", short_side=0, base_size=0)
    after = eval_config(preset="", short_side=512, base_size=0)
    overrides = ["--config.eval.preset=", "--config.eval.short_side=512"]
    check_overrides(after, overrides, before=run)
    with pytest.raises(UserError, match=r"in config\.eval base_size is 2048"):
        changed_options(run, {"short_side": 512})


@pytest.mark.parametrize("limit", [None, 0])
def test_a_short_side_may_lose_its_limit(limit):
    check_changes(
        {"base_size": 192, "short_side": 48},
        {"base_size": limit},
        mode="whole",
        write=lambda field, value: f"{field}={value!r}",
    )
