"""What `configs`, `config`, the helps of configs, hints and completion answer."""

import os
import signal
import subprocess
import sys

import pytest

from danet_jax.base.errors import UserError
from danet_jax.configs import common
from danet_jax.runs import experiments
from danet_jax.runs.config import flat, load_config
from danet_jax.runs.config_fields import comments, explain
from tests.launcher import ROOT


def danet(*arguments, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, "-m", "danet_jax", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_field_has_a_place_and_most_a_comment():
    known = comments()
    assert known.keys() == flat(common.get_config()).keys()
    assert known["train.clip_norm"] == "The gradient is clipped to this global norm; 0 is off."
    assert known["data.vertical_flip"] == ""
    assert sum(map(bool, known.values())) > 50


def test_where_a_value_came_from():
    overrides = ["--config.seed=3", "--config.train.batch_size=8"]
    fields = {field.name: field for field in explain("camvid:runlocal", overrides)}
    final = flat(load_config("camvid:runlocal", overrides))
    assert {name: field.value for name, field in fields.items()} == final
    expected = {
        "seed": "override",
        "train.batch_size": "override",
        "model.backbone": "argument",
        "model.num_classes": "experiment",
        "model.dropout_rate": "default",
        "eval.short_side": "follows",
    }
    assert {name: fields[name].origin for name in expected} == expected


def test_config_prints_each_field_with_its_comment_value_and_origin():
    done = danet("config", "--config=camvid:runlocal", "--config.seed=3")
    assert done.returncode == 0, done.stderr
    assert "config.seed = 3  (override)\n" in done.stdout
    assert "config.model.backbone = 'resnet18'  (argument)\n" in done.stdout
    assert "# Input pixels per feature: 8 or 16.\nconfig.model.output_stride = 8\n" in done.stdout
    changed = danet("config", "--config=camvid:runlocal", "--changed").stdout
    assert "config.model.width = 16  (argument)" in changed
    assert "output_stride" not in changed
    for name in comments():
        assert f"config.{name} = " in done.stdout


def test_configs_lists_all_experiments():
    done = danet("configs")
    assert done.returncode == 0
    files = {file.stem for file in (ROOT / "configs").glob("*.py")}
    assert experiments.shipped().keys() == files - {"__init__", "common", "recipes", "rules"}
    for name in experiments.shipped():
        assert f"\n{name} " in f"\n{done.stdout}"
    assert "coarse" in done.stdout


@pytest.mark.parametrize("name", experiments.shipped())
def test_the_arguments_that_are_listed_are_taken(name):
    """Each listed flag alone makes an experiment, and each key is known to it."""
    listed = experiments.arguments(experiments.find(name))
    assert listed
    for argument, meaning in listed.items():
        assert len(meaning) > 5
        if not argument.endswith("="):
            load_config(f"{name}:{argument}")
        elif argument == "name=":
            assert load_config(f"{name}:name=mine").data.name.endswith("mine")
        else:
            with pytest.raises(UserError, match=f"{argument}nonsense"):
                load_config(f"{name}:{argument}nonsense")


def test_help_of_arguments_and_of_fields():
    done = danet("train", "--config=folder:help")
    assert done.returncode == 0
    assert "classes=      how many there are" in done.stdout
    fields = danet("train", "--config.help")
    assert fields.returncode == 0
    assert "config.train.epochs = 240\n" in fields.stdout
    of_one = danet("prepare", "--config", "camvid", "--config.help")
    assert "config.data.name = 'camvid'  (experiment)\n" in of_one.stdout
    assert danet("train", "--config=camvd:help").returncode == 2


HINTS = {
    "command": (["trian"], "Did you mean train?"),
    "option": (["train", "--workdir=x", "--fersh"], "Did you mean --fresh?"),
    "required option": (["train", "--wrkdir=x"], "Did you mean --workdir in place of --wrkdir?"),
    "value of an option": (
        ["export", "--workdir=x", "--output=y", "--format=onxx"],
        "Did you mean onnx?",
    ),
    "experiment": (["prepare", "--config=camvd"], "Did you mean --config=camvid"),
    "argument": (["prepare", "--config=camvid:runlcal"], "Did you mean 'runlocal'?"),
    "value of an argument": (["prepare", "--config=camvid:recipe=mmsg"], "Did you mean mmseg?"),
    "field": (["prepare", "--config=camvid", "--config.modle.width=3"], "Did you mean"),
    "value of a field": (
        ["train", "--workdir=x", "--config=camvid", "--config.model.stem=dep"],
        "Did you mean 'deep'?",
    ),
}


@pytest.mark.parametrize("name", HINTS)
def test_what_was_probably_meant(name):
    arguments, says = HINTS[name]
    done = danet(*arguments)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_names_work_from_any_folder_and_files_come_first(tmp_path):
    done = danet("config", "--config=camvid", "--changed", cwd=tmp_path)
    assert "config.data.name = 'camvid'" in done.stdout
    (tmp_path / "mine.py").write_text(
        "from danet_jax.configs import camvid\n"
        "def get_config():\n"
        "    config = camvid.get_config()\n"
        "    config.seed = 7\n"
        "    return config\n"
    )
    done = danet("config", "--config=mine.py", "--changed", cwd=tmp_path)
    assert "config.seed = 7  (experiment)" in done.stdout
    missing = danet("config", "--config=min.py", cwd=tmp_path)
    assert f"there is no file {tmp_path / 'min.py'}. Did you mean mine.py?" in missing.stderr


COMPLETIONS = {
    "danet tra": {"train"},
    "danet train --work": {"--workdir"},
    "danet train --config=cam": {"--config=camvid"},
    "danet train --config cam": {"camvid"},
    "danet train --config.train.ep": {"--config.train.epochs"},
    "danet export --form": {"--format"},
    "danet export --workdir=x --format ": {"torch", "stablehlo", "onnx"},
}


@pytest.mark.parametrize("line", COMPLETIONS)
def test_a_shell_completes(line, tmp_path):
    answer = tmp_path / "answer"
    danet(
        cwd=tmp_path,
        _ARGCOMPLETE="1",
        _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
        _ARGCOMPLETE_IFS="\n",
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
        COMP_TYPE="9",
    )
    found = {text.strip() for text in answer.read_text().splitlines()}
    assert COMPLETIONS[line] <= found
    assert all(text.startswith(line.rpartition(" ")[2]) or "=" in line for text in found)


def test_the_three_ways_to_start_are_the_same():
    versions = danet("--version").stdout
    main = subprocess.run(
        [sys.executable, "main.py", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert main.stdout == versions
    assert "python -m danet_jax train" in danet("--help").stdout


@pytest.mark.parametrize(
    "arguments", [["configs"], ["config", "--config=camvid"], ["--config.help"]]
)
def test_a_reader_that_has_seen_enough_is_no_error(arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "danet_jax", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    _, said = process.communicate(timeout=60)
    assert said == ""
    assert process.returncode == 128 + signal.SIGPIPE
