"""Splits that cannot be scored: said before the first step, or else without losing any."""

import contextlib
import shutil

import pytest
from PIL import Image

from danet_jax.input_pipeline.builders.camvid import VOID
from danet_jax.input_pipeline.storage import preparation
from danet_jax.runs.checkpoints import Checkpointer
from tests.interop.conftest import command
from tests.runs import STEPS, digests, finish, wait_for, write_camvid
from tests.training.compilation import light_compilation

__all__ = ["command", "light_compilation"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_a_labelled_pixel_is_refused_before_the_first_step(
    command, workplace, tmp_path, split
):
    source = write_camvid(tmp_path / "CamVid")
    for name in ("train", "val"):
        file = source / f"{name}annot" / f"{name}_0.png"
        Image.new("L", Image.open(file).size, VOID).save(file)
    preparation.prepare("camvid", data_dir=tmp_path / "data", source=source)
    before = digests(tmp_path)
    status, _, errors = command(
        "train",
        f"--workdir={tmp_path / 'run'}",
        *workplace.config(
            f"--config.data.data_dir={tmp_path / 'data'}",
            f"--config.data.{'eval' if split == 'val' else 'train'}_split={split}[:1]",
            "--config.train.batch_size=8",
        ),
    )
    assert status == 2
    assert f"No pixel of the split '{split}[:1]' of camvid is labelled" in errors
    assert "config.data.eval_split" in errors
    assert digests(tmp_path) == before


def test_an_evaluation_that_fails_loses_no_step(workplace, tmp_path):
    data = shutil.copytree(workplace.data, tmp_path / "data")
    (shard,) = data.rglob("camvid-val.array_record*")
    whole = shard.read_bytes()
    image = (workplace.source / "val" / "val_3.png").read_bytes()
    start = whole.index(image[1000:1064])
    run, evaluated = tmp_path / "run", STEPS - 2
    process = workplace.fork(
        "train",
        f"--workdir={run}",
        *workplace.config(
            f"--config.data.data_dir={data}",
            f"--config.train.checkpoint_every={10 * STEPS}",
            f"--config.train.eval_every={evaluated}",
        ),
    )
    metrics = run / "metrics.jsonl"
    assert wait_for(lambda: metrics.exists() and metrics.stat().st_size, process)
    # A block of the last image is lost during the training, as on a failing disk.
    with open(shard, "r+b") as file:
        file.seek(start)
        file.write(bytes(64))
    outcome = finish(process)
    assert outcome.status == 2
    assert "split 'val'" in outcome.stderr
    with contextlib.closing(Checkpointer(run / "checkpoints")) as checkpointer:
        assert checkpointer.latest_step() == evaluated
        assert not checkpointer.has_score(evaluated)
