"""`danet plan` with the real compiler for TPUs: `make test-plan`."""

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.launcher import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu, which compiles for TPUs, is installed by `make test-plan`",
    ),
]
TOY = (
    "--config=camvid:runlocal",
    "--config.model.backbone=resnet10",
    "--config.model.width=8",
    "--config.data.crop_size=(64,64)",
    "--config.train.batch_size=4",
    "--config.train.steps=100",
)


def plan(cache, *arguments):
    return subprocess.run(
        [sys.executable, "main.py", "plan", *TOY, *arguments],
        cwd=ROOT,
        env={"PATH": "", "HOME": str(cache), "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_a_toy_is_planned_for_four_chips(tmp_path):
    output = tmp_path / "plan"
    done = plan(tmp_path, "--topology", "v5e:2x2", f"--output={output}")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads((output / "plan.json").read_text())["plans"]
    measured = one["measured"]
    assert (one["chips"], one["hosts"], one["examples_per_chip"]) == (4, 1, 1)
    # Every gradient and every statistic is summed over the four chips.
    sums = [x for x in measured["collectives"] if x["kind"] == "all-reduce"]
    assert {x["group"] for x in sums} == {4}
    exchanged = sum(x["bytes"] * x["count"] for x in sums)
    assert exchanged > 4 * measured["parameter_count"]
    assert any("convolution" in name for name in measured["kernels"])
    # XLA's own count holds more than products, and this toy has little else; in its loops it
    # counts one round.
    assert 0.5 < measured["operations"] / measured["xla"]["flops"] < 2
    assert 0.3 < measured["bytes_accessed"] / measured["xla"]["bytes accessed"] < 3
    assert "fits" in done.stdout

    # What was compiled is kept.
    again = plan(tmp_path, "--topology", "v5e:2x2")
    assert again.returncode == 0
    assert "compiled before" in again.stderr


def test_a_topology_that_does_not_exist_is_told(tmp_path):
    done = plan(tmp_path, "--topology", "v5e:3x5", "--config.train.batch_size=15", "--no-remedies")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "v5e:3x5" in done.stderr
