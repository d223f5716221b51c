"""A plan: what is tried, how long it says that a training takes, and how it is shown."""

import json
import os
import subprocess
import sys

import jax
import pytest

from danet_jax.base.errors import UserError
from danet_jax.network import abstract_variables, create_model
from danet_jax.planning import compiling, wording, worker
from danet_jax.planning.chips import parse_topology
from danet_jax.planning.remedies import remedies
from danet_jax.planning.roofline import Roofline, roofline
from danet_jax.runs.config import load_config
from danet_jax.tasks import plan as planning
from tests.interop.conftest import command
from tests.launcher import ROOT
from tests.training.compilation import light_compilation

__all__ = ["command", "light_compilation"]

TOY = (
    "--config.model.backbone=resnet10",
    "--config.model.width=4",
    "--config.data.crop_size=(64,64)",
    "--config.train.batch_size=8",
    "--config.train.steps=100",
)


def config(*overrides):
    return load_config("configs/camvid.py:runlocal", [*TOY, *overrides])


@pytest.fixture(scope="module")
def measured():
    """The toy's step on four of the devices here, in place of a slice of four chips."""
    return worker.measure(config(), parse_topology("v5e:2x2"), devices=jax.devices()[:4])


def test_a_step_is_measured(measured):
    model = config().model
    shapes = abstract_variables(create_model(model))["params"]
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert measured["parameter_count"] == count
    # The momentum is of the parameters' size, and the two counters of the schedule.
    assert 0 <= measured["optimizer_bytes"] - 4 * count <= 8
    assert measured["parameter_bytes"] > 4 * count
    # A chip is given the state, two of the eight examples, and the key and the step.
    state = measured["parameter_bytes"] + measured["optimizer_bytes"]
    assert 0 <= measured["argument_bytes"] - state - 2 * 64 * 64 * 4 < 1024
    assert measured["memory_bytes"] >= measured["argument_bytes"] + measured["temporary_bytes"]
    # Each gradient is summed over the chips.
    exchanged = sum(one["bytes"] * one["count"] for one in measured["collectives"])
    assert exchanged > 4 * count
    assert {one["group"] for one in measured["collectives"]} == {4}
    assert measured["bytes_accessed"] > measured["memory_bytes"] / 2
    assert measured["kernels"]


def test_the_arithmetic_of_a_step_is_shared_out(measured):
    one = worker.measure(config(), parse_topology("h100:1"), devices=jax.devices()[:1])
    assert one["operations"] == pytest.approx(4 * measured["operations"], rel=0.05)
    assert one["collectives"] == []
    assert one["bytes_sent"] == 0


def test_a_roofline_by_hand():
    chip = parse_topology("v5e:2x2").chip
    measured = {"operations": 197e12, "bytes_accessed": 819e9 * 3, "bytes_sent": 200e9 / 2}
    times = roofline(measured, chip, "bfloat16")
    assert times == Roofline(arithmetic=1.0, memory=3.0, network=0.5)
    assert times.limit == "memory"
    assert times.range == (3.0, 9.0)


def test_remedies_are_tried_from_the_cheapest_to_the_dearest():
    large = config("--config.train.batch_size=16")
    tried = [one.overrides for one in remedies(large, parse_topology("v5e:2x2"))]
    both = ("--config.model.dtype=bfloat16", "--config.model.remat=block")
    assert tried == [
        ("--config.model.dtype=bfloat16",),
        ("--config.model.remat=block",),
        both,
        (*both, "--config.train.accumulation_steps=2"),
        (*both, "--config.mesh.space=2"),
        (*both, "--config.train.batch_size=8"),
    ]
    for one in remedies(large, parse_topology("v5e:2x2")):
        # They are arguments that the command line takes.
        again = config("--config.train.batch_size=16", *one.overrides)
        assert again.to_dict() == one.config.to_dict()


def test_what_cannot_help_is_not_tried():
    least = config("--config.train.batch_size=4", "--config.model.dtype=bfloat16")
    tried = [one.overrides for one in remedies(least, parse_topology("v5e:2x2"))]
    block = "--config.model.remat=block"
    assert tried == [(block,), (block, "--config.mesh.space=2")]


@pytest.fixture
def compiled(monkeypatch, measured):
    """The compiler of absent chips gives what the devices here gave, times a factor."""

    def set_factor(factor, failed=None):
        def stand_in(config, topology, *, on_wait):
            on_wait(61.0)
            if failed:
                return {"failed": failed}
            scale = factor * (0.5 if config.model.remat == "block" else 1)
            return measured | {"memory_bytes": int(scale * 2**30)}

        monkeypatch.setattr(planning.compiling, "measured", stand_in)
        monkeypatch.setattr(planning.checks, "check_compiler", lambda topology: None)

    return set_factor


def test_what_does_not_fit_names_what_would(compiled, tmp_path, capsys):
    compiled(30)
    topologies = [parse_topology("v5e:2x2"), parse_topology("v6e:2x2")]
    plans = planning.plan(config(), topologies)
    assert [one.fits for one in plans] == [False, True]
    # The first that fits is the last that is tried, since each takes minutes.
    assert [one.fits for one in plans[0].tried] == [False, True]
    assert plans[0].tried[1].overrides == ("--config.model.remat=block",)
    assert plans[1].tried == ()
    said = "\n".join(wording.notes(plans))
    assert "v5e:2x2 fits with --config.model.remat=block, 15 GiB a chip" in said
    assert "v5e:2x2 does not fit with --config.model.dtype=bfloat16, 30 GiB" in said

    page = planning.write(plans, config(), tmp_path)
    kept = json.loads((tmp_path / "plan.json").read_text())
    assert [one["fits"] for one in kept["plans"]] == [False, True]
    assert kept["plans"][0]["hours"][0] > 0
    text = page.read_text()
    assert "v6e:2x2" in text
    assert "does not fit with" in text
    # The same command may write there again; it does not write over anything else.
    planning.check_place(tmp_path)
    # Somebody has added a note.
    kept["my_notes"] = "rent on Monday"
    (tmp_path / "plan.json").write_text(json.dumps(kept, indent=2) + "\n")
    for do in (planning.check_place, lambda folder: planning.write(plans, config(), folder)):
        with pytest.raises(UserError, match=r"plan\.json is not a plan as this program wrote it"):
            do(tmp_path)
    assert json.loads((tmp_path / "plan.json").read_text()) == kept
    assert page.read_text() == text
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(UserError, match=r"plan\.json is not a plan"):
        planning.check_place(tmp_path)


def test_a_compiler_that_fails_is_told_and_nothing_is_promised(compiled):
    compiled(1, failed="the compiler ended by SIGABRT: Check failed")
    (one,) = planning.plan(config(), [parse_topology("h100:1")])
    assert not one.fits
    # Nothing says that less memory would help.
    assert one.tried == ()
    assert one.hours is None
    assert wording.rows(one)["a step"] == "–"
    assert wording.rows(one)["fits"] == "not compiled"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("--config.train.accumulation_steps=0", "accumulation_steps is 0; give 1 or more"),
        ("--config.train.accumulation_steps=3", "does not divide into"),
        ("--config.data.crop_size=()", "crop_size"),
        ("--config.loss.name=foo", "config.loss.name"),
        ("--config.model.output_stride=0", "output_stride"),
    ],
)
@pytest.mark.parametrize("name", ["plan", "inspect", "prepare"])
def test_a_wrong_config_is_told_before_the_work(name, override, says, command):
    arguments = ["--config=configs/camvid.py:runlocal", override]
    if name == "plan":
        arguments.append("--topology=v5e:2x2")
    status, _, errors = command(name, *arguments)
    assert status == 2
    assert says in errors
    assert "Traceback" not in errors


def test_classes_that_only_a_source_knows_are_asked_for(compiled, tmp_path):
    compiled(1)
    folder = load_config("configs/folder.py", [*TOY, f"--config.data.data_dir={tmp_path}"])
    with pytest.raises(UserError, match=r"prepare it, or give --config\.model\.num_classes=NUMBER"):
        planning.plan(folder, [parse_topology("v5e:2x2")])
    folder.model.num_classes = 3
    (one,) = planning.plan(folder, [parse_topology("v5e:2x2")])
    assert one.fits


ASK_THE_COMPILER = """
from danet_jax.planning import compiling
from danet_jax.planning.chips import parse_topology
from danet_jax.runs.config import load_config
config = load_config("camvid", [])
print(compiling._compile(config, parse_topology("v5e:2x2"), lambda seconds: None))
"""


def test_the_compiler_imports_nothing_from_the_current_folder(tmp_path):
    for name in ("ml_collections.py", "queue.py"):
        (tmp_path / name).write_text("open('ran', 'w').close()")
    command = [sys.executable, "-P", "-c", ASK_THE_COMPILER]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    asked = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    # There is no compiler for TPUs here, which the process finds out long after its imports.
    assert "failed" in asked.stdout or "memory_bytes" in asked.stdout, asked.stderr
    assert not (tmp_path / "ran").exists()


def test_hours_follow_from_steps(compiled):
    compiled(1)
    (one,) = planning.plan(config(), [parse_topology("v5e:2x2")])
    low, high = one.roofline.range
    assert one.steps == 100
    assert one.hours == (pytest.approx(low / 36), pytest.approx(high / 36))
    # Epochs need the number of images, which is asked for where nothing is prepared.
    epochs = config("--config.train.steps=0", "--config.train.epochs=2")
    (one,) = planning.plan(epochs, [parse_topology("v5e:2x2")], images=367)
    assert one.steps == 2 * 367 // 8


def test_unprepared_data_leaves_hours_open(compiled, tmp_path, capfd):
    compiled(1)
    epochs = config("--config.train.steps=0", f"--config.data.data_dir={tmp_path}")
    (one,) = planning.plan(epochs, [parse_topology("v5e:2x2")])
    assert one.hours is None
    assert "give --images=NUMBER" in " ".join(capfd.readouterr().err.split())


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """The compiler says what it is told, and counts how often it is asked."""
    asked = []

    def set_answer(answer):
        def stand_in(config, topology, on_wait):
            asked.append(topology.name)
            return dict(answer)

        monkeypatch.setattr(compiling, "_compile", stand_in)
        return asked

    monkeypatch.setattr(compiling, "cache_folder", lambda: str(tmp_path))
    tmp_path.chmod(0o700)
    return set_answer


def test_what_was_compiled_is_kept_and_failures_are_tried_again(compiler, monkeypatch, tmp_path):
    topology = parse_topology("v5e:2x2")
    asked = compiler({"failed": "Unknown command line flag"})
    for _ in range(2):
        assert compiling.measured(config(), topology)["failed"]
    assert len(asked) == 2
    whole = {"memory_bytes": 3, "xla": {}}
    asked = compiler(whole)
    asked.clear()
    assert compiling.measured(config(), topology) == whole
    assert compiling.measured(config(), topology) == whole | {"kept": True}
    # Another program, or another compiler's flags, is compiled.
    compiling.measured(config("--config.model.remat=block"), topology)
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_enable=1")
    compiling.measured(config(), topology)
    assert len(asked) == 3
    # The seed and the data are no part of it.
    compiling.measured(config("--config.seed=7", "--config.data.name=mine"), topology)
    assert len(asked) == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"memory_bytes": 3}', "torn{"])
def test_a_torn_result_is_compiled_anew(compiler, tmp_path, content):
    topology = parse_topology("v5e:2x2")
    whole = {"memory_bytes": 3, "xla": {}}
    compiler(whole)
    compiling.measured(config(), topology)
    (file,) = (tmp_path / "plans").iterdir()
    file.write_text(content)
    assert compiling.measured(config(), topology) == whole
    assert compiling.measured(config(), topology) == whole | {"kept": True}


def test_a_cache_that_cannot_be_written_costs_no_result(compiler, tmp_path):
    (tmp_path / "plans").write_text("mine")
    whole = {"memory_bytes": 3, "xla": {}}
    compiler(whole)
    assert compiling.measured(config(), parse_topology("v5e:2x2")) == whole
    assert (tmp_path / "plans").read_text() == "mine"


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm.", 20.5 * 2**30),
        (
            "Ran out of memory on HBM, the total memory required for HLO temporaries (576.00G) "
            "exceeds available HBM (15.75G)",
            576 * 2**30,
        ),
    ],
)
def test_too_little_memory_is_read_from_what_compilers_say(said, size):
    assert compiling._failure(1, f"Traceback\n{said}\n")["memory_bytes"] == size


def test_an_abort_names_its_reason_and_not_its_addresses():
    errors = "F0000 x.cc:3] Check failed: a == b\nhttps://symbolize/r/?trace=1\n#0 0x1 f()\n"
    said = compiling._failure(-6, errors)
    assert said == {"failed": "the compiler ended by SIGABRT: F0000 x.cc:3] Check failed: a == b"}


def test_numbers_are_in_units_that_fit():
    assert wording._binary(3 * 2**29) == "1.5 GiB"
    assert wording._binary(0) == "0 B"
    assert wording._decimal(4.16e12, "FLOP") == "4.16 TFLOP"
    assert wording._decimal(0.0, "B") == "0 B"
    assert [wording._duration(x) for x in (2e-6, 0.021, 3.0, 90.0, 7200.0)] == [
        "2 µs",
        "21 ms",
        "3 s",
        "1.5 min",
        "2 h",
    ]


@pytest.mark.parametrize(
    ("overrides", "topology", "says"),
    [
        (
            ["--config.train.batch_size=6"],
            "v5e:2x2",
            r"does not divide over 4 devices of v5e:2x2: choose a multiple of 4, or let devices "
            r"share images: --config\.mesh\.space=2",
        ),
        (
            [],
            "v5e:16x16",
            r"over 256 devices of v5e:16x16: choose a multiple of 256 and a learning rate in "
            r"proportion \(recipe=large_batch,batch=256 does both\), or let devices share images, "
            r"across hosts: --config\.mesh\.space=32\.",
        ),
        (
            ["--config.train.batch_size=64"],
            "v5e:16x16",
            r"does both\), or let devices share images: --config\.mesh\.space=4\.",
        ),
        (["--config.mesh.space=3"], "v5e:4x4", r"config\.mesh\.space is 3"),
    ],
)
def test_batches_that_do_not_divide_name_what_would(compiled, overrides, topology, says):
    compiled(1)
    with pytest.raises(UserError, match=says):
        planning.plan(config(*overrides), [parse_topology(topology)])
