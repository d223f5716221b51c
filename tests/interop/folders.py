"""Weights folders of the tests' run, and an image to predict."""

import json
import re
import shutil

import numpy as np

from tests.runs import succeed

SETTINGS = {"mode": "slide", "crop_size": 32, "base_size": 50, "scales": [0.8, 1.3], "flip": True}
HOSTILE = "<b onclick=x>|`a`*_[x](javascript:y)_*\\(1\\)$$2$$\n# head\x1b[31m @all"


def export_by_command(workplace, workdir, output, *more):
    """Exports a run as a person does; returns the folder."""
    arguments = (f"--workdir={workdir}", f"--output={output}", "--format=folder")
    outcome = succeed(workplace.run("export", *arguments, *more))
    assert "fill in the licence in README.md" in outcome.stdout
    return output


def filled_in(exported, folder):
    """A copy whose licence a person has filled in."""
    shutil.copytree(exported, folder)
    card = folder / "README.md"
    text = re.sub("license: TO-BE-FILLED-IN.*", "license: apache-2.0", card.read_text())
    card.write_text(re.sub("TO-BE-FILLED-IN.*", "Apache-2.0.", text))
    return folder


def photo(height=37, width=61, seed=0):
    """Areas of colour with noise, so that labels come in areas and are not all the same."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (-(-height // 8), -(-width // 8), 3)).repeat(8, 0).repeat(8, 1)
    noise = rng.integers(0, 56, (height, width, 3))
    return (coarse[:height, :width] + noise).astype(np.uint8)


def change(file, function):
    content = json.loads(file.read_text())
    function(content)
    file.write_text(json.dumps(content))


def change_config(config):
    config["eval"] |= SETTINGS
    config["data"]["data_dir"] = "/home/jane/secret/data"
    config["model"]["pretrained_backbone"] = "/home/jane/secret/resnet10.safetensors"
