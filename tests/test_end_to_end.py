"""From image files to labelled images by the command line, with everything a run leaves."""

import base64
import contextlib
import io
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.input_pipeline.builders.camvid import COLORS, NAMES
from danet_jax.runs.config import load_config
from tests.runs import CHECKPOINT_EVERY, EVAL_EVERY, STEPS, digests, succeed

pytestmark = pytest.mark.end_to_end


def write_images(folder):
    """Images of many sizes and modes; returns name → (width, height)."""
    rng = np.random.default_rng(0)
    (folder / "sub").mkdir(parents=True)

    def draw(*shape, dtype=np.uint8):
        return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)

    Image.fromarray(draw(48, 64, 3)).save(folder / "colour.png")
    Image.fromarray(draw(33, 50)).save(folder / "grey.png")
    Image.fromarray(draw(48, 64, 4)).save(folder / "alpha.png")
    Image.fromarray(draw(48, 64, dtype=np.uint16)).save(folder / "deep.png")
    cv2.imwrite(str(folder / "deep_colour.png"), draw(48, 64, 3, dtype=np.uint16))
    Image.fromarray(draw(48, 64, 3)).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(draw(48, 64)).convert("P").save(folder / "palette.png")
    Image.fromarray(draw(40, 57, 3)).save(folder / "sub" / "photo.jpg")
    Image.fromarray(draw(1, 1, 3)).save(folder / "pixel.png")
    return {
        "colour": (64, 48),
        "grey": (50, 33),
        "alpha": (64, 48),
        "deep": (64, 48),
        "deep_colour": (64, 48),
        "print": (64, 48),
        "palette": (64, 48),
        "sub/photo": (57, 40),
        "pixel": (1, 1),
    }


def read(path):
    with Image.open(path) as image:
        image.load()
        return image


def mean_iou(outcome):
    """The number that train and eval print."""
    return re.search(r"^mean IoU (0\.\d{4}) on 4 images", outcome.stdout, re.MULTILINE).group(1)


def test_prepare_leaves_a_page_of_what_is_there(workplace):
    page = (workplace.data / "camvid" / "dataset_report.html").read_text()
    assert "<b>8</b><span>train images</span>" in page
    assert "<b>4</b><span>val images</span>" in page
    assert page.count('<article class="card sample">') == 8 + 4
    assert "Split train has 8 examples; the published one has 367." in page
    assert all(name in page for name in ("sky", "building", "road", "car"))


def test_inspect_shows_what_training_sees(workplace):
    outcome = succeed(workplace.run("inspect", *workplace.config(), "--examples=20"))
    assert "20 examples of camvid as its training sees them" in outcome.stdout
    absent = "pole, pavement, tree, sign, fence and 2 more"
    assert f"warning: In 20 examples there is no pixel of {absent}." in outcome.stderr
    page = (workplace.data / "camvid" / "inspection.html").read_text()
    assert "<b>20</b><span>train examples</span>" in page
    assert "32 × 32" in page
    assert page.count('<article class="card sample">') == 16
    # The first example of the page is the stream's.
    config = load_config("configs/camvid.py:runlocal", workplace.config()[1:])
    split = input_pipeline.open_split("camvid", "train", data_dir=workplace.data)
    stream = input_pipeline.TrainingStream(split, config.data, batch_size=2, seed=0)
    with contextlib.closing(stream):
        image = next(stream)["image"][0]
    first = re.search(r'alt="image example 1"[^>]*base64,([^"]+)"', page).group(1)
    shown = Image.open(io.BytesIO(base64.b64decode(first)))
    np.testing.assert_array_equal(np.asarray(shown), image)


def test_inspect_doubts_an_evaluation_that_training_does_not_fit(workplace):
    config = workplace.config("--config.data.base_size=512")
    outcome = succeed(workplace.run("inspect", *config, "--examples=1"))
    assert "warning: 4 of 4 images of val are evaluated at a short side of 48" in outcome.stderr
    assert "--config.eval.short_side=512" in outcome.stderr


def test_train_prints_its_recipe(workplace, finished):
    said = workplace.said.read_text()
    assert "warning: the dilation 4 of layer 4 is more than half of the 4×4 features" in said
    assert re.search(r"^Network +DANet on resnet10, stride 8, plain stem", said, re.MULTILINE)
    assert re.search(r"^Length +24 steps of 2, 6 epochs$", said, re.MULTILINE)


def test_a_run_leaves_metrics_checkpoints_and_a_report(finished):
    records = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    training = [record for record in records if "loss" in record]
    evaluations = [record for record in records if "mean_iou" in record]
    assert [record["step"] for record in training] == list(range(1, STEPS + 1))
    assert [r["step"] for r in evaluations] == list(range(EVAL_EVERY, STEPS + 1, EVAL_EVERY))
    assert all(np.isfinite(value) for record in records for value in record.values())
    for record in training:
        parts = ("loss_fused", "loss_position", "loss_channel")
        assert record["loss"] == pytest.approx(sum(record[part] for part in parts), rel=1e-5)
    rates = [record["learning_rate"] for record in training]
    rate = json.loads((finished / "config.json").read_text())["optimizer"]["learning_rate"]
    expected = [rate * (1 - step / STEPS) ** 0.9 for step in range(STEPS)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    losses = [record["loss"] for record in training]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])

    best = max(evaluations, key=lambda record: record["mean_iou"])["step"]
    kept = {int(folder.name) for folder in (finished / "checkpoints").iterdir()}
    assert kept == {best, STEPS - CHECKPOINT_EVERY, STEPS}

    config = json.loads((finished / "config.json").read_text())
    assert config["model"]["width"] == 4
    assert config["train"]["steps"] == STEPS
    classes = json.loads((finished / "classes.json").read_text())
    assert classes == {"names": list(NAMES), "colors": [list(color) for color in COLORS]}
    events = list((finished / "tensorboard").glob("events.out.tfevents.*"))
    assert len(events) == 1
    assert b"train/loss_fused" in events[0].read_bytes()
    assert b"eval/mean_iou" in events[0].read_bytes()


def test_the_report_holds_the_score_that_eval_prints(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "report" / "index.html").unlink()
    before = digests(run / "checkpoints")
    outcome = succeed(workplace.run("eval", f"--workdir={run}"))
    score = mean_iou(outcome)
    page = (run / "report" / "index.html").read_text()
    assert f"{100 * float(score):.2f} %" in page
    assert all(name in page for name in NAMES)
    assert digests(run / "checkpoints") == before
    # The best checkpoint is what eval takes.
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(record["mean_iou"] for record in records if "mean_iou" in record)
    assert float(score) == pytest.approx(best, abs=5e-5)


def test_train_on_a_finished_workdir_changes_no_checkpoint(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    before = digests(run)
    outcome = succeed(workplace.run("train", f"--workdir={run}"))
    assert f"is finished: all {STEPS} steps are done" in " ".join(outcome.stderr.split())
    assert re.search(r"^Start +the run's newest checkpoint$", outcome.stderr, re.MULTILINE)
    after = digests(run)
    kept = ("checkpoints/", "metrics.jsonl", "config.json", "classes.json")
    for path, digest in before.items():
        if path.startswith(kept):
            assert after[path] == digest, path
    assert {path for path in after if path.startswith("checkpoints/")} <= before.keys()


def test_predict_labels_images_of_any_size_and_mode(workplace, finished, tmp_path):
    images, output = tmp_path / "images", tmp_path / "output"
    sizes = write_images(images)
    (images / "photo.heic").touch()
    before = digests(finished), digests(images)
    arguments = (f"--workdir={finished}", f"--input={images}", f"--output={output}")
    outcome = succeed(workplace.run("predict", *arguments))
    assert f"{len(sizes)} images" in outcome.stdout
    assert (digests(finished), digests(images)) == before
    assert sum(path.is_file() for path in output.rglob("*")) == 3 * len(sizes)
    for name, size in sizes.items():
        label = read(output / f"{name}_label.png")
        assert (label.mode, label.size) == ("P", size)
        ids = np.asarray(label)
        assert ids.max() < len(NAMES)
        assert label.getpalette()[: 3 * len(COLORS)] == [v for color in COLORS for v in color]
        overlay = read(output / f"{name}_overlay.png")
        assert (overlay.mode, overlay.size) == ("RGB", size)
        summary = json.loads((output / f"{name}.json").read_text())
        assert (summary["width"], summary["height"]) == size
        shares = summary["class_shares"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        for index in np.unique(ids):
            assert shares[NAMES[index]] == pytest.approx((ids == index).mean(), abs=1e-4)
    for name, note in (
        ("deep", "16-bit grey: the high byte is used"),
        ("deep_colour", "16-bit colour: the high byte is used"),
        ("print", "converted from CMYK to RGB"),
    ):
        assert json.loads((output / f"{name}.json").read_text())["notes"] == [note]
        assert f"1 image: {note}\n" in outcome.stderr
    assert "skipped, as the file format is not supported: photo.heic\n" in outcome.stderr


def test_predict_labels_a_single_image(workplace, finished, tmp_path):
    image = workplace.source / "val" / "val_0.png"
    arguments = (f"--workdir={finished}", f"--input={image}", f"--output={tmp_path}")
    succeed(workplace.run("predict", *arguments, f"--step={STEPS}"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "val_0_label.png",
        "val_0_overlay.png",
        "val_0.json",
    }


def test_windows_scales_and_mirror_images(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    augmentation = (
        "--config.eval.mode=slide",
        "--config.eval.crop_size=32",
        "--config.eval.scales=0.75,1.0",
        "--config.eval.flip=True",
        "--config.eval.merge=original",
    )
    outcome = succeed(workplace.run("eval", f"--workdir={run}", *augmentation))
    assert mean_iou(outcome)
    announced = "inference: 10 windows for an image of 64×48, each also mirrored\n"
    assert announced in outcome.stderr
    page = (run / "report" / "index.html").read_text()
    settings = "windows of 32×32, scales 0.75, 1, mirrored, original"
    for words in (settings, "0.75, 1", "count 0", "Evaluations side by side"):
        assert words in page
    # Beside the one that training ended with.
    first, second = json.loads((run / "report" / "evaluations.json").read_text())["evaluations"]
    assert (first["step"], first["split"]) == (second["step"], second["split"])
    assert first["settings"]["merge"] == "softmax"
    assert second["settings"]["merge"] == "original"
    assert f"{second['metrics']['mean_iou']:.4f}" == mean_iou(outcome)
    assert len(second["iou"]) == len(NAMES)
    image = workplace.source / "val" / "val_0.png"
    arguments = (f"--workdir={run}", f"--input={image}", f"--output={tmp_path / 'output'}")
    succeed(workplace.run("predict", *arguments, *augmentation))
    assert read(tmp_path / "output" / "val_0_label.png").size == (64, 48)
