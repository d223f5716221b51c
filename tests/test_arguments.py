"""What the command line makes of its arguments before any command begins."""

import re
from pathlib import Path

import jax
import pytest

import danet_jax
import main
from danet_jax.base.errors import UserError
from danet_jax.commands import command_line
from danet_jax.evaluation.predictor import Predictor
from danet_jax.interop.torch_files import read_state_dict
from tests.runs import finish, succeed

FOLDER = ("--config=configs/folder.py",)
RUN = ("--workdir=run",)
# A complete command each but for the one path that is a URL.
WITH_URLS = [
    (("train", *FOLDER), "--workdir", "gs://bucket/run", "mount"),
    (("train", *FOLDER), "--workdir", "gs:/bucket/run", "mount"),
    (("train", *RUN), "--config", "s3://bucket/config.py", "mount"),
    (("train", *FOLDER, *RUN), "--config.data.data_dir", "hdfs://host:9000/data", "mount"),
    (
        ("train", *FOLDER, *RUN),
        "--config.model.pretrained_backbone",
        "https://a.b/c.pth",
        "download",
    ),
    (("eval",), "--workdir", "abfss://c@account/run", "mount"),
    (("eval", *RUN), "--submission", "s3a://bucket/out", "mount"),
    (("prepare", *FOLDER), "--source", "dbfs:/mnt/pictures", "mount"),
    (("predict", *RUN, "--input=a.png"), "--output", "s3:/bucket/out", "mount"),
    (("predict", *RUN, "--output=out"), "--input", "file:///home/me/a.png", "leave out the scheme"),
    (("export", *RUN, "--format=torch"), "--output", "GS://bucket/out", "mount"),
    (("push", "--repo=a/b"), "--folder", "hf://a/b", "from_folder"),
    (("import-torch", *FOLDER, *RUN), "--checkpoint", "http://a.b/danet.pth", "download"),
    (("check-submission", *FOLDER), "--input", "az://box/labels", "mount"),
    (("inspect",), "--config", "ftp://a.b/c.py", "download"),
    (("benchmark", *FOLDER), "--workdir", "r2://bucket/speed", "mount"),
]


@pytest.mark.parametrize(("command", "option", "url", "cure"), WITH_URLS)
def test_urls_are_refused_with_the_cure(command, option, url, cure, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main.run([*command, f"{option}={url}"])
    assert ended.value.code == 2
    message = capsys.readouterr().err.partition("error: ")[2]
    scheme, rest = re.fullmatch(r"(\w+):/+(.*)", url).groups()
    assert f"{option} is {scheme.lower()}://{rest}" in message
    assert cure in message.lower()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["C:/Users/me/run", "runs/a:/b", "./gs", "runs/2026-11-27T10:00", "a:b/c"]
)
def test_local_paths_with_colons_are_no_urls(text):
    args = command_line.parse(["eval", f"--workdir={text}"])
    assert args.workdir == Path(text)


def test_neither_does_the_library_take_urls():
    with pytest.raises(UserError, match=r"workdir is gs://bucket/run: .*Mount"):
        Predictor.from_workdir("gs://bucket/run")
    with pytest.raises(UserError, match=r"https://a\.b/c\.pth: .*Download"):
        read_state_dict("https://a.b/c.pth")


def test_version_says_what_runs_here(workplace):
    outcome = succeed(finish(workplace.start("--version"), seconds=20))
    assert outcome.stderr == ""
    versions = dict(line.split(" ") for line in outcome.stdout.splitlines())
    assert versions["danet-jax"] == danet_jax.__version__
    assert versions["jax"] == jax.__version__
    assert {"python", "jaxlib", "flax", "numpy"} <= versions.keys()
