"""The public predictor: the run's own settings, and all kinds of images that `predict` reads."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.input_pipeline import DataError
from danet_jax.runs import folder as run_folder
from tests.runs import succeed

# Windows at two sizes and their mirror images: nothing of it is a default.
SETTINGS = {
    "mode": "slide",
    "crop_size": 32,
    "base_size": 50,
    "scales": (0.8, 1.3),
    "flip": True,
}


def photo(height=37, width=61, seed=0):
    """Areas of colour with noise, so that labels come in areas and are not all the same."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (-(-height // 8), -(-width // 8), 3)).repeat(8, 0).repeat(8, 1)
    noise = rng.integers(0, 56, (height, width, 3))
    return (coarse[:height, :width] + noise).astype(np.uint8)


@pytest.fixture(scope="module")
def run_with_settings(finished, tmp_path_factory):
    """The finished run, as if it had been evaluated by SETTINGS."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(finished, workdir)
    file = workdir / run_folder.CONFIG_FILE
    config = json.loads(file.read_text())
    config["eval"] |= SETTINGS
    file.write_text(json.dumps(config))
    return workdir


@pytest.fixture(scope="module")
def predictor(run_with_settings):
    return danet_jax.Predictor.from_workdir(run_with_settings)


@pytest.mark.slow
def test_a_run_is_predicted_with_its_own_settings(
    workplace, run_with_settings, predictor, tmp_path
):
    images = {"small": photo(), "large": photo(90, 70, seed=1)}
    (tmp_path / "images").mkdir()
    for name, image in images.items():
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
    succeed(
        workplace.run(
            "predict",
            f"--workdir={run_with_settings}",
            f"--input={tmp_path / 'images'}",
            f"--output={tmp_path / 'predicted'}",
        )
    )
    plain = danet_jax.Predictor(predictor.model, predictor.variables)
    explicit = danet_jax.Predictor(predictor.model, predictor.variables, **SETTINGS)
    differing = 0
    for name, image in images.items():
        labels = np.asarray(Image.open(tmp_path / "predicted" / f"{name}_label.png"))
        np.testing.assert_array_equal(predictor(image), labels)
        np.testing.assert_array_equal(explicit(image), labels)
        differing += (plain(image) != labels).sum()
    # The settings matter.
    assert differing


def test_options_override_the_runs_settings(run_with_settings, predictor):
    options = {"mode": "whole", "base_size": None, "scales": (1.0,), "flip": False}
    whole = danet_jax.Predictor.from_workdir(run_with_settings, **options)
    assert whole.settings.is_single_pass
    np.testing.assert_array_equal(
        whole(photo()), danet_jax.Predictor(predictor.model, predictor.variables)(photo())
    )


def test_an_option_beside_the_runs_own_is_refused_as_predict_does(
    workplace, finished, predictor, tmp_path
):
    run = shutil.copytree(finished, tmp_path / "run")
    file = run / run_folder.CONFIG_FILE
    config = json.loads(file.read_text())
    config["eval"] |= {"short_side": 40, "base_size": 160}
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"base_size=50: in config\.eval short_side is 40"):
        danet_jax.Predictor.from_workdir(run, base_size=50)
    refused = workplace.run(
        "predict", f"--workdir={run}", "--input=none", "--output=out", "--config.eval.base_size=50"
    )
    assert refused.status == 2
    assert "base_size=50: in config.eval short_side is 40" in refused.stderr
    alone = danet_jax.Predictor.from_workdir(run, base_size=50, short_side=None)
    assert (alone.settings.base_size, alone.settings.short_side) == (50, None)
    with pytest.raises(UserError, match="give mode='slide' as well"):
        danet_jax.Predictor(predictor.model, predictor.variables, crop_size=32)


def test_classes_have_names_and_colours(finished, predictor):
    names, colors = run_folder.read_classes(finished)
    assert (predictor.names, predictor.colors) == (names, colors)
    assert len(names) == predictor.model.num_classes


def converted(image, kind, folder):
    """An image of one kind, and the uint8 RGB image that it stands for."""
    grey = np.asarray(Image.fromarray(image).convert("L"))
    of_grey = grey[..., None].repeat(3, 2)
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    path = folder / "photo.png"
    Image.fromarray(image).save(path)
    turned = Image.fromarray(image)
    turned.getexif()[0x0112] = 6
    turned.save(folder / "turned.png", exif=turned.getexif())
    with Image.open(folder / "turned.png") as file:
        file.load()
    return {
        "path": (path, image),
        "text": (str(path), image),
        "Pillow RGB": (Image.fromarray(image), image),
        "Pillow L": (Image.fromarray(grey), of_grey),
        "Pillow I;16": (Image.fromarray(257 * grey.astype(np.uint16)), of_grey),
        "Pillow RGBA": (Image.fromarray(opaque), image),
        "Pillow turned": (file, np.rot90(image, -1)),
        "grey": (grey, of_grey),
        "grey [h, w, 1]": (grey[..., None], of_grey),
        "opaque": (opaque, image),
    }[kind]


KINDS = (
    *("path", "text", "grey", "grey [h, w, 1]", "opaque"),
    *(f"Pillow {kind}" for kind in ("RGB", "L", "I;16", "RGBA", "turned")),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*16-bit grey")
def test_all_that_predict_reads(kind, predictor, tmp_path):
    image, same = converted(photo(), kind, tmp_path)
    np.testing.assert_array_equal(predictor.read(image), same)


def test_a_list_gives_a_list(predictor, tmp_path):
    image = photo()
    Image.fromarray(image).save(tmp_path / "photo.png")
    first, second = predictor([image, tmp_path / "photo.png"])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, predictor(image))
    assert predictor([]) == []


def test_what_was_converted_is_said(predictor):
    with pytest.warns(UserWarning, match="the image: 16-bit grey: the high byte is used"):
        predictor.read(Image.fromarray(np.zeros((4, 5), np.uint16)))


def test_a_files_name_reaches_no_terminal_as_it_is(predictor, tmp_path):
    path = tmp_path / "a\x1b]0;mine\x07.png"
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(path)
    with pytest.warns(UserWarning, match="16-bit grey") as caught:
        predictor.read(path)
    assert str(caught[0].message).isprintable()


def see_through():
    return np.dstack([photo(), photo()[..., 0]])


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (see_through(), "PIL.Image.fromarray(image)"),
        (photo()[..., 0].astype(np.int32), "give grey as uint8"),
        (photo() / 255, "looks like 0 to 1"),
        (photo().astype(np.float32), "looks like 0 to 255"),
        (photo().astype(np.int32), "astype(numpy.uint8)"),
        (photo()[None], "labels(images)"),
        (photo().transpose(2, 0, 1), "transpose(1, 2, 0)"),
        (7, "of the type int"),
        ("no such file.png", "no such file.png"),
        (Image.fromarray(np.zeros((4, 5), np.float32)), "unknown range"),
    ],
)
def test_what_is_no_image_is_told_what_to_do(image, says, predictor):
    for predict in (predictor, predictor.scores):
        with pytest.raises((UserError, DataError)) as caught:
            predict(image)
        assert says in str(caught.value)
    with pytest.raises((UserError, DataError)):
        predictor([photo(4, 4), image])
