"""Settings that no machine has the memory or the time for are refused before the work."""

import functools
import math

import pytest

from danet_jax.base.errors import UserError
from danet_jax.configs import common
from danet_jax.evaluation import settings as settings_module
from danet_jax.evaluation.eval_config import settings_of
from danet_jax.evaluation.run import check_sizes
from danet_jax.evaluation.settings import InferenceSettings, check_cost, inference_settings

DEFAULTS = {
    "mode": "whole",
    "crop_size": None,
    "base_size": None,
    "scales": (1.0,),
    "flip": False,
    "merge": "softmax",
}
# Fields, and what the message names: the field, and what is too much.
ABSURD = {
    "scales": ({"scales": (1e9,)}, ("scales has 1e+09", "from 0.01 to 100")),
    "tiny scales": ({"scales": (1.0, 1e-9)}, ("scales has 1e-09", "from 0.01 to 100")),
    "large scales": ({"scales": (100.0,)}, ("scales has 100", "102400×76800", "GB of memory")),
    "base_size": ({"base_size": 10**7}, ("base_size is 10000000", "GB of memory")),
    "both": ({"base_size": 10**5, "scales": (90.0,)}, ("scales has 90 and", "base_size is 100000")),
    "windows": ({"mode": "slide", "crop_size": 10**8}, ("crop_size is 100000000", "GB of memory")),
    "many windows": (
        {"mode": "slide", "crop_size": 1},
        ("crop_size is 1", "786,432 windows", "250,000 are the most"),
    ),
    "many windows of a large image": (
        {"mode": "slide", "crop_size": 64, "base_size": 10**9},
        ("crop_size is 64", "windows"),
    ),
    "too many scales": ({"scales": (1.0,) * 65}, ("scales has 65 numbers", "64 are the most")),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_settings_are_refused_by_their_names(name, monkeypatch):
    monkeypatch.setattr(settings_module, "memory_bytes", lambda: 64 * 10**9)
    fields, words = ABSURD[name]
    with pytest.raises(UserError) as caught:
        inference_settings(**DEFAULTS | fields)
    for word in words:
        assert word in str(caught.value)
    config = common.get_config().eval
    config.update(fields)
    with pytest.raises(UserError) as caught:
        settings_of(config)
    assert f"config.eval.{words[0]}" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"scales": (math.nan,)}, "give numbers above 0"),
        ({"scales": (math.inf,)}, "from 0.01 to 100"),
        ({"scales": (-1.0,)}, "give numbers above 0"),
        ({"scales": ("1",)}, "give numbers above 0"),
        ({"scales": (True,)}, "give numbers above 0"),
        ({"scales": "0.5"}, "give numbers above 0"),
        ({"scales": 0.5}, "give numbers above 0"),
        ({"base_size": 0}, "base_size is 0"),
        ({"base_size": -3}, "base_size is -3"),
        ({"base_size": 320.0}, "base_size is 320.0"),
        ({"base_size": "320"}, "base_size is '320'"),
        ({"base_size": math.nan}, "base_size is nan"),
        ({"mode": "slide", "crop_size": 0}, "crop_size is 0"),
        ({"mode": "slide", "crop_size": True}, "crop_size is True"),
        ({"flip": "no"}, "flip is 'no'"),
        ({"crop_size": 64}, "mode is 'whole', which has no windows; give mode='slide' as well"),
        ({"short_side": 641, "base_size": 640}, "Give a base_size of 641 or more"),
    ],
)
def test_values_that_are_none(fields, says):
    with pytest.raises(UserError) as caught:
        inference_settings(**DEFAULTS | fields)
    assert says in str(caught.value)


def test_what_an_image_takes_is_said(monkeypatch):
    monkeypatch.setattr(settings_module, "memory_bytes", lambda: 10**9)
    settings = inference_settings(**DEFAULTS)
    check_cost(settings, (1000, 2000), num_classes=100)
    # Three colours and a hundred scores of four bytes.
    with pytest.raises(UserError, match=r"least 2\.1 GB of memory; this machine has 1\.0 GB"):
        check_cost(settings, (2000, 2500), num_classes=100)
    windows = inference_settings(**DEFAULTS | {"mode": "slide", "crop_size": 512})
    check_cost(windows, (20000, 20000), num_classes=100)
    with pytest.raises(UserError, match="crop_size is 512"):
        check_cost(windows, (600, 600), num_classes=100, batch_size=16)


def test_the_sizes_of_a_split_are_checked_with_its_batch(monkeypatch):
    monkeypatch.setattr(settings_module, "memory_bytes", lambda: 10**9)
    sizes = [(500, 600)] * 3
    check = functools.partial(
        check_sizes, InferenceSettings(), sizes, num_classes=20, window_batch=None
    )
    check(batch_size=4)
    with pytest.raises(UserError, match="600×500"):
        check(batch_size=100)


def test_windows_are_counted_without_making_them():
    fields = {"mode": "slide", "crop_size": 32, "scales": (0.5, 1.0, 1.5)}
    for merge in ("softmax", "original"):
        settings = inference_settings(**DEFAULTS | fields | {"merge": merge})
        for size in ((10, 300), (32, 32), (77, 131)):
            made = sum(len(grid.tops) * len(grid.lefts) for grid in settings.grids(size))
            assert settings.count_windows(size) == made
