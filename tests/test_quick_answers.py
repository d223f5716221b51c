"""Mistakes that can be seen without JAX are answered before it is imported, which takes seconds."""

import subprocess
import sys

import pytest

from tests.launcher import ROOT

SCRIPT = """
import sys
import main
try:
    status = main.run(sys.argv[1:])
except SystemExit as end:
    status = end.code
print(status, sorted({"jax", "tensorflow_datasets", "grain", "matplotlib"} & set(sys.modules)))
"""
CAMVID = "--config=configs/camvid.py"
ANSWERS = {
    "--help": (["--help"], 0, ""),
    "help of a command": (["train", "--help"], 0, ""),
    "--version": (["--version"], 0, ""),
    "no command": ([], 2, ""),
    "unknown command": (["trian"], 2, "invalid choice: 'trian'"),
    "unknown option": (["train", "--workdir=x", "--epochs=3"], 2, "--epochs=3"),
    "no such file": (["train", "--workdir=x", "--config=configs/camvd.py"], 2, "camvid.py"),
    "argument of a config": (["train", "--workdir=x", f"{CAMVID}:runlocl"], 2, "'runlocal'"),
    "unknown field": (["train", "--workdir=x", CAMVID, "--config.train.epoch=3"], 2, "epochs"),
    "value of a field": (["train", "--workdir=x", CAMVID, "--config.seed=-1"], 2, "config.seed"),
    "type of a field": (["inspect", CAMVID, "--config.seed=one"], 2, "a whole number"),
    "choice of a field": (
        [
            "import-torch",
            "--workdir=x",
            "--checkpoint=x",
            CAMVID,
            "--config.model.backbone=resnet5",
        ],
        2,
        "resnet50",
    ),
    "unknown chip": (["plan", CAMVID, "--topology", "v7:2x2"], 2, "no chip that is known"),
    "shape of a slice": (["plan", CAMVID, "--topology", "v5e:4"], 2, "such as v5e:4x4"),
    "compiler of a chip": (["plan", CAMVID, "--topology", "v5e:2x2"], 2, "danet-jax[tpu]"),
    "eval of no run": (["eval", "--workdir=nowhere"], 2, "nowhere"),
    "export of no run": (
        ["export", "--workdir=no", "--format=onnx", "--output=o"],
        2,
        "config.json",
    ),
    "export of no run as a folder": (
        ["export", "--workdir=no", "--format=folder", "--output=o"],
        2,
        "config.json",
    ),
    "push of no folder": (["push", "--folder=no", "--repo=a/b"], 2, "there is no such folder"),
    "push to no repository": (["push", "--folder=no", "--repo=a"], 2, "OWNER/NAME"),
    "predict of no run": (["predict", "--workdir=no", "--input=x", "--output=o"], 2, "config.json"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_without_jax(name):
    arguments, status, says = ANSWERS[name]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == f"{status} []"
    assert says in done.stderr
