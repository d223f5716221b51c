"""A plan: what is tried, how long it says that a training takes, and how it is shown."""

import json

import jax
import pytest

from danet_jax.base.errors import UserError
from danet_jax.network import abstract_variables, create_model
from danet_jax.planning import wording, worker
from danet_jax.planning.chips import parse_topology
from danet_jax.planning.remedies import remedies
from danet_jax.planning.roofline import Roofline, roofline
from danet_jax.runs.config import load_config
from danet_jax.tasks import plan as planning

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
    assert tried == [
        ("--config.model.dtype=bfloat16",),
        ("--config.model.remat=block",),
        ("--config.model.dtype=bfloat16", "--config.model.remat=block"),
        ("--config.train.accumulation_steps=2",),
        ("--config.train.batch_size=8",),
        ("--config.mesh.space=2",),
    ]
    for one in remedies(large, parse_topology("v5e:2x2")):
        # They are arguments that the command line takes.
        again = config("--config.train.batch_size=16", *one.overrides)
        assert again.to_dict() == one.config.to_dict()


def test_what_cannot_help_is_not_tried():
    least = config("--config.train.batch_size=4", "--config.model.dtype=bfloat16")
    tried = [one.overrides for one in remedies(least, parse_topology("v5e:2x2"))]
    assert tried == [("--config.model.remat=block",), ("--config.mesh.space=2",)]


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
    fitting = [one.overrides for one in plans[0].tried if one.fits]
    assert fitting[0] == ("--config.model.remat=block",)
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
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(UserError, match=r"plan\.json is not a plan"):
        planning.check_place(tmp_path)


def test_a_compiler_that_fails_is_told_and_nothing_is_promised(compiled):
    compiled(1, failed="the compiler ended by SIGABRT: Check failed")
    (one,) = planning.plan(config(), [parse_topology("h100:1")], try_remedies=False)
    assert not one.fits
    assert one.hours is None
    assert wording.rows(one)["a step"] == "–"
    assert wording.rows(one)["fits"] == "no"


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
        ([], "v5e:16x16", r"over 256 devices of v5e:16x16: choose a multiple of 256\."),
        (["--config.mesh.space=3"], "v5e:4x4", r"config\.mesh\.space is 3"),
    ],
)
def test_batches_that_do_not_divide_name_what_would(compiled, overrides, topology, says):
    compiled(1)
    with pytest.raises(UserError, match=says):
        planning.plan(config(*overrides), [parse_topology(topology)])
