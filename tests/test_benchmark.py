"""`benchmark`: what it measures, what it counts, what it shows."""

import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks import cases, command, compare, jax_cases, networks
from benchmarks.arguments import BENCHMARK
from benchmarks.worker import Worker, WorkerError
from danet_jax.base.errors import UserError
from danet_jax.commands import command_line
from tests.runs import ROOT, succeed
from tests.test_command_line import check_message
from tests.training.compilation import light_compilation
from tests.training.tiny import tiny_config

__all__ = ["light_compilation"]

SIZE = (32, 48)


@pytest.fixture
def benchmark(workplace, tmp_path):
    """Runs the command with a tiny network; its workdir is tmp_path."""

    def run(*arguments):
        config = workplace.config("--config.optimizer.learning_rate=0.001")
        return workplace.run("benchmark", f"--workdir={tmp_path}", *config, *arguments)

    return run


def test_it_measures_and_leaves_numbers_and_a_plot(benchmark, tmp_path):
    outcome = succeed(benchmark("--what=infer", "--size=32x48", "--repetitions=3"))
    assert "32×48, batch 1" in outcome.stdout
    assert "danet-jax" in outcome.stdout
    whole = json.loads((tmp_path / "benchmark" / "infer.json").read_text())
    (record,) = whole["records"]
    assert len(record["seconds"]) == 3
    assert all(0 < seconds < 60 for seconds in record["seconds"])
    assert record["first"] > max(record["seconds"])
    assert 50e6 < record["peak"] < 5e9
    assert whole["matmul_operations_per_second"] > 1e8
    assert whole["config"]["model"]["width"] == 4
    assert whole["versions"]["jax"]
    with Image.open(tmp_path / "benchmark" / "infer.png") as plot:
        assert min(plot.size) > 300


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--size=32",), "--size=32: give HEIGHTxWIDTH, such as 512x1024."),
        (("--repetitions=0",), "--repetitions and --batch take whole numbers above 0."),
        (("--batch=0",), "--repetitions and --batch take whole numbers above 0."),
    ],
)
def test_what_it_refuses(arguments, says, benchmark):
    assert says in check_message(benchmark(*arguments))


def test_peers_that_are_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["benchmark", "--config=configs/camvid.py", f"--workdir={tmp_path}", "--peer=mmseg"]
    args = command_line.parse(arguments, others=(BENCHMARK,))
    with pytest.raises(
        UserError, match=r"--peer=mmseg: mmseg is not installed; `make test-parity`"
    ):
        command.run(args)


def test_peers_that_compute_something_else_are_refused():
    options = {"sizes": (SIZE,), "batch": 1}
    with pytest.raises(UserError, match="takes part in train and infer"):
        cases.groups(tiny_config(), "conv", ("torch-compile",), **options)
    with pytest.raises(UserError, match=r"config.train.clip_norm is 1.0. Give --config.train.clip"):
        cases.groups(tiny_config(train={"clip_norm": 1.0}), "train", ("torch",), **options)
    with pytest.raises(UserError, match=r"another network .*stem=plain.*recipe=mmseg"):
        cases.groups(tiny_config(), "train", ("mmseg",), **options)


@pytest.mark.parametrize("what", ["train", "attention", "conv", "loss"])
def test_all_that_can_be_measured_runs(what, light_compilation):
    config = tiny_config()
    for group in cases.groups(config, what, (), sizes=(SIZE,), batch=8):
        for participant in group.participants:
            assert participant.framework == "danet-jax"
            # Convolutions are many, and each is compiled.
            for case in group.cases[:2]:
                workload = jax_cases.BUILDERS[what](config, case, participant.variant)
                value = workload.call()
                assert workload.temporaries >= 0
                assert what != "train" or 0 < value < 20


def test_operations_are_those_of_the_definition():
    config = tiny_config(attention=())
    case = {"size": (32, 32), "batch": 2}
    # ResNet-10 of width 4: maps of 16, 8, and, from layer 2 on, 4 pixels a side.
    stem = 16 * 16 * 49 * 3 * 4
    layer1 = 2 * 8 * 8 * 9 * 4 * 4
    layer2 = 4 * 4 * (9 * 4 * 8 + 9 * 8 * 8 + 4 * 8)
    layer3 = 4 * 4 * (9 * 8 * 16 + 9 * 16 * 16 + 8 * 16)
    layer4 = 4 * 4 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
    head = 4 * 4 * (9 * 32 * 8 + 8 * 3)
    forward = 2 * 2 * (stem + layer1 + layer2 + layer3 + layer4 + head)
    assert networks.operations(config, case, train=False) == forward
    assert networks.operations(config, case, train=True) == 3 * forward
    position = networks.operations(tiny_config(attention=("position",)), case, train=False)
    n, c = 16, 8
    projections = n * c * (1 + 1 + c) + 9 * n * c * c
    assert position - forward == 2 * 2 * (projections + n * n * (1 + c))


def test_convolutions_are_counted_once():
    found = networks.convolutions(tiny_config(), {"size": (32, 32), "batch": 1})
    assert found[0] == {
        "map": (32, 32),
        "inputs": 3,
        "outputs": 4,
        "kernel": 7,
        "stride": 2,
        "dilation": 1,
        "times": 1,
    }
    assert sum(conv["times"] for conv in found) == 1 + 4 * 2 + 4
    deep = networks.convolutions(tiny_config(backbone="resnet50"), {"size": (32, 32), "batch": 1})
    assert sum(conv["times"] for conv in deep) == 1 + 16 + 4


def test_a_participant_that_fails_is_named(tmp_path):
    task = {"framework": "danet-jax", "what": "infer"}
    worker = Worker(task | {"config": tiny_config(backbone="resnet0").to_dict()})
    participant = cases.Participant("danet-jax", "danet-jax", "")
    said = []
    case = {"size": SIZE, "batch": 1, "name": "a case"}
    (record,) = compare._measure_case(
        {participant: worker}, case, repetitions=2, say=said.append
    ).values()
    worker.close()
    assert "config.model.backbone is 'resnet0'" in record["failed"]
    assert record["seconds"] == []
    assert said == [f"a case, danet-jax: failed: {record['failed']}"]
    shown = io.StringIO()
    table = compare.table([record], rate=1e9, title="title")
    Console(file=shown, width=120).print(table)
    assert "failed" in shown.getvalue()


def test_the_table_compares_with_the_peer():
    case = {"name": "a case", "operations": 4e9}
    records = [
        {"case": case, "side": "danet-jax", "seconds": [2, 1, 3], "first": 9, "peak": 10**9},
        {"case": case, "side": "PyTorch", "seconds": [5, 4, 3], "first": 4, "peak": 2 * 10**9},
    ]
    shown = io.StringIO()
    Console(file=shown, width=120).print(compare.table(records, rate=20e9, title="title"))
    lines = {
        side: next(line.split() for line in shown.getvalue().splitlines() if f"  {side}" in line)
        for side in ("danet-jax", "PyTorch")
    }
    assert "2.00" in lines["danet-jax"]
    assert "10" in lines["danet-jax"]
    assert "1000" in lines["danet-jax"]
    assert "1.00" in lines["PyTorch"]
    np.testing.assert_allclose(compare.quartiles(records[0]), (1.5, 2, 2.5))


@pytest.fixture
def script(workplace):
    """Runs a module of `benchmarks`."""

    def run(name, *arguments):
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=workplace.environment, capture_output=True, text=True
        )

    return run


def test_a_start_is_measured_without_and_with_what_was_compiled(script, workplace, tmp_path):
    file = tmp_path / "numbers.json"
    done = script("start", "--repetitions=1", f"--json={file}", *workplace.config())
    assert done.returncode == 0, done.stderr
    seconds = json.loads(file.read_text())["seconds"]
    assert list(seconds) == ["empty cache", "filled cache"]
    for name, of_cache in seconds.items():
        (first,), (before,) = of_cache["first_step"], of_cache["before_it"]
        assert 0 < before <= first
        assert f"{name:<14}first step  {first:.1f} s" in done.stdout
    assert "sooner, first step: " in done.stdout


def test_where_nothing_can_be_measured_nothing_is_written(benchmark, tmp_path):
    said = check_message(benchmark("--what=input", "--config.data.data_dir=/nowhere"))
    assert said.startswith("Nothing could be measured, and nothing was written: NotPreparedError:")
    assert said.count("is not prepared") == 1
    assert not (tmp_path / "benchmark").exists()


def test_a_start_that_fails_says_why(script, workplace):
    done = script("start", *workplace.config("--config.data.train_split=trian"))
    assert done.returncode == 1
    assert "has no split 'trian'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_gpu_script_runs_at_toy_sizes(script, tmp_path):
    file = tmp_path / "numbers.json"
    done = script("gpu", "--toy", "--no-peers", "--repetitions=2", f"--json={file}")
    assert done.returncode == 0, done.stderr
    whole = json.loads(file.read_text())
    parts = {part["title"]: part["records"] for part in whole["parts"]}
    assert len(parts) == 5
    assert "weight gradients: resnet10, bfloat16" in done.stdout.rpartition("--")[2]
    for title, records in parts.items():
        for record in records:
            if record["side"].startswith("danet-jax"):
                assert len(record["seconds"]) == 2, (title, record)
    (step,) = (r for r in parts["a training step"] if r["side"] == "danet-jax")
    assert step["peak"] > 0
    assert step["case"]["size"] == [64, 64]
    methods = {record["side"] for record in parts["weight gradients"]}
    assert {f"danet-jax, {m}" for m in ("native", "einsum", "space_to_batch")} <= methods


def test_without_a_gpu_the_gpu_script_says_so(script):
    done = script("gpu")
    assert done.returncode == 1
    assert done.stderr == "JAX finds no GPU here; --toy tries this script on the CPU.\n"
    assert done.stdout == ""


def test_a_worker_is_stopped_when_the_time_is_over():
    until = time.monotonic()
    worker = Worker({"framework": "danet-jax", "what": "matmul", "config": {}}, until=until)
    with pytest.raises(WorkerError, match="the time was over"):
        worker.ask({"case": {}, "variant": ""})
    worker.close()
