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
    # XLA's own count holds more than products, and this toy has little else.
    assert 0.5 < measured["operations"] / measured["xla"]["flops"] < 2
    # XLA counts what lies in the chip's fast memory, too, as nearly all of a toy does.
    assert measured["argument_bytes"] < measured["bytes_accessed"]
    assert measured["bytes_accessed"] < measured["xla"]["bytes accessed"]
    assert "fits" in done.stdout

    # What was compiled is kept.
    again = plan(tmp_path, "--topology", "v5e:2x2")
    assert again.returncode == 0
    assert "compiled before" in again.stderr


def test_parts_of_a_batch_exchange_their_statistics_in_each_round(tmp_path):
    plans = []
    for parts in (1, 2):
        output = tmp_path / str(parts)
        done = plan(
            tmp_path,
            "--topology=v5e:2x2",
            f"--output={output}",
            "--config.train.batch_size=8",
            f"--config.train.accumulation_steps={parts}",
        )
        assert done.returncode == 0, done.stderr
        plans += json.loads((output / "plan.json").read_text())["plans"]
    once, twice = (one["measured"] for one in plans)
    # The arithmetic stays, but for what each round adds.
    assert twice["operations"] == pytest.approx(once["operations"], rel=0.01)
    counts = [sum(x["count"] for x in one["collectives"]) for one in (once, twice)]
    assert counts[1] > 1.8 * counts[0]


def test_one_chip_alone(tmp_path):
    output = tmp_path / "plan"
    done = plan(tmp_path, "--topology", "v5e:1x1", f"--output={output}")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads((output / "plan.json").read_text())["plans"]
    assert one["measured"]["collectives"] == []


def test_a_topology_that_does_not_exist_is_told(tmp_path):
    done = plan(tmp_path, "--topology", "v5e:3x5", "--config.train.batch_size=15")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "v5e:3x5" in done.stderr
    assert "not compiled" in done.stdout
