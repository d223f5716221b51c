"""An evaluation counts the same pixels on any number of devices."""

import json
import os
import subprocess
import sys
from concurrent import futures

import numpy as np
import pytest

from tests.runs import ROOT

# 7 images divide by neither 2, 3 nor 8; windows and scales neither.
SCRIPT = """
import json
import sys

import numpy as np

import danet_jax
from danet_jax.evaluation.evaluate import evaluate
from tests.training.tiny import random_variables, tiny_config

config = tiny_config()
model = danet_jax.create_model(config.model)
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (7, 5, 7, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
labels = rng.integers(0, 4, (7, 5, 7), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
labels[labels == 3] = 255
batches = [
    {
        "image": images[[index, (index + 1) % 7]],
        "label": labels[[index, (index + 1) % 7]],
        "index": np.array([index, index + 1 if index < 6 else -1]),
    }
    for index in range(0, 7, 2)
]
found = {}
for name, options in {
    "whole": {},
    "windows": {"mode": "slide", "crop_size": 32, "scales": (0.5, 1.0), "flip": True},
    "original": {"mode": "slide", "crop_size": 32, "flip": True, "merge": "original"},
}.items():
    predictor = danet_jax.Predictor(model, random_variables(model), **options)
    result = evaluate(predictor, batches, config=config, num_images=7)
    found[name] = result.confusion.tolist()
print(json.dumps(found))
"""


def run(devices):
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def counts():
    with futures.ThreadPoolExecutor(2) as pool:
        return dict(zip((1, 3, 8), pool.map(run, (1, 3, 8)), strict=True))


@pytest.mark.parametrize("devices", [3, 8])
@pytest.mark.parametrize("look", ["whole", "windows", "original"])
def test_the_confusion_matrix_is_the_same(look, devices, counts):
    assert counts[devices][look] == counts[1][look]


@pytest.mark.parametrize("look", ["whole", "windows", "original"])
def test_every_labelled_pixel_is_counted_once(look, counts):
    rng = np.random.default_rng(0)
    rng.integers(0, 256, (7, 5, 7, 3), dtype=np.uint8)
    labels = rng.integers(0, 4, (7, 5, 7), dtype=np.uint8)
    expected = 64 * np.bincount(labels.ravel(), minlength=4)[:3]
    np.testing.assert_array_equal(np.sum(counts[1][look], axis=1), expected)
