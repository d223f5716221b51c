"""The published evaluation: against numbers of the original, and a plain transcription of it."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.base.imagenet import MEAN, STD
from danet_jax.configs import common
from danet_jax.evaluation import merging, windows
from danet_jax.evaluation.full_size import full_logits
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.programs import window_scores
from danet_jax.ops.resize import interpolation_matrix
from tests.models.test_reference import GOLDEN, seeded, seeded_state_dict
from tests.training.tiny import random_variables, tiny_config

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2)


@pytest.fixture(scope="module")
def network(light_compilation):
    model = danet_jax.create_model(tiny_config().model)
    return model, random_variables(model)


# One function for all tests, which of each shape is compiled once.
compiled_logits = jax.jit(full_logits, static_argnums=0)


def logits_of(network, x):
    return compiled_logits(*network, jnp.asarray(x, jnp.float32))


# --- numbers of the original ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def original():
    config = common.get_config()
    config.model.update(backbone="resnet50", num_classes=19, multi_grid=(4, 8, 16))
    model = danet_jax.create_model(config.model)
    return model, danet_jax.from_torch(seeded_state_dict(model, "pub"), model)


@pytest.mark.parametrize("name", ["single", "multi"])
def test_scores_agree_with_the_original(name, original):
    golden = dict(np.load(GOLDEN / f"evaluator_{name}_scale.npz"))
    meta = json.loads(str(golden["meta"]))
    image = 0.5 * seeded((1, 3, meta["h"], meta["w"]), "image", meta["salt"])
    predictor = Predictor(
        *original,
        mode="slide",
        crop_size=meta["crop_size"],
        base_size=meta["base_size"],
        scales=SCALES if meta["multi_scale"] else (1.0,),
        flip=True,
        merge="original",
    )
    before = window_scores.compilations()
    scores = predictor.log_scores(image[0].transpose(1, 2, 0))
    # All scales have windows of one size.
    assert window_scores.compilations() - before <= 1

    assert np.mean(scores.argmax(-1) == golden["argmax"][0]) >= 0.9995
    expected = golden["scores"][0].transpose(1, 2, 0)
    assert np.abs(scores[::5, ::5] - expected).max() <= 1e-3 * expected.std()


# --- a plain transcription -----------------------------------------------------------------------


def normalized(image):
    mean, std = (255 * np.array(values) for values in (MEAN, STD))
    return (image.astype(np.float64) - mean[None, None]) / std[None, None]


def resized(x, size):
    rows = interpolation_matrix(x.shape[0], size[0], align_corners=True).astype(np.float64)
    columns = interpolation_matrix(x.shape[1], size[1], align_corners=True).astype(np.float64)
    return np.einsum("Hh,Ww,hwc->HWc", rows, columns, x)


def padded(x, crop):
    height, width = (max(side, crop) for side in x.shape[:2])
    out = np.broadcast_to(normalized(np.zeros((1, 1, 3))), (height, width, 3)).copy()
    out[: x.shape[0], : x.shape[1]] = x
    return out


def plain_scores(logits_of, image, *, base, crop, scales):
    """The original's evaluator (v0.5.0), one window after the other, in float64."""

    def infer(window):
        logits = logits_of(window) + logits_of(window[:, ::-1])[:, ::-1]
        return np.exp(logits)

    height, width = image.shape[:2]
    total = 0.0
    for scale in scales:
        long_side = math.ceil(base * scale)
        if height > width:
            size = (long_side, int(1.0 * width * long_side / height + 0.5))
        else:
            size = (int(1.0 * height * long_side / width + 0.5), long_side)
        scaled = resized(image, size)
        if long_side <= crop:
            scores = infer(padded(scaled, crop))
        else:
            whole = padded(scaled, crop) if min(size) < crop else scaled
            stride = int(crop * (2 / 3 if len(scales) == 1 else 1 / 2))
            grid = [math.ceil((side - crop) / stride) + 1 for side in whole.shape[:2]]
            scores, counts = 0.0, np.zeros((*whole.shape[:2], 1))
            for row in range(grid[0]):
                for column in range(grid[1]):
                    top, left = row * stride, column * stride
                    window = whole[top : top + crop, left : left + crop]
                    found = infer(padded(window, crop))[: window.shape[0], : window.shape[1]]
                    if np.isscalar(scores):
                        scores = np.zeros((*whole.shape[:2], found.shape[-1]))
                    scores[top : top + crop, left : left + crop] += found
                    counts[top : top + crop, left : left + crop] += 1
            scores = scores / counts
        total = total + resized(scores[: size[0], : size[1]], (height, width))
    return total


MULTI = (0.5, 1.0, 1.7)
LOOKS = {
    "wide, single": ((40, 72), 90, (1.0,)),
    "wide, multi": ((40, 72), 90, MULTI),
    "tall, single": ((72, 40), 90, (1.0,)),
    "tall, multi": ((72, 40), 90, MULTI),
    "square, multi": ((50, 50), 90, MULTI),
    "many rows of windows": ((300, 70), 210, (1.0,)),
}


@pytest.mark.parametrize(("size", "base", "scales"), LOOKS.values(), ids=LOOKS)
def test_scores_agree_with_the_transcription(size, base, scales, network):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)

    def logits_of_window(window):
        return np.asarray(logits_of(network, window[None])[0], np.float64)

    options = {"base_size": base, "scales": scales}
    expected = plain_scores(logits_of_window, normalized(image), base=base, crop=48, scales=scales)
    predictor = Predictor(
        *network, mode="slide", crop_size=48, flip=True, merge="original", **options
    )
    found = predictor.log_scores(image)
    np.testing.assert_allclose(found, np.log(expected), atol=1e-4 * np.log(expected).std())
    np.testing.assert_allclose(np.log(predictor.scores(image)), found, atol=1e-4)
    assert np.mean(predictor(image) == expected.argmax(-1)) >= 0.9995


# --- the other rule ------------------------------------------------------------------------------


def test_softmax_averages_probabilities(network):
    """Two windows side by side, shifted back inside, the image and its mirror image."""
    model, variables = network
    image = np.random.default_rng(1).integers(0, 256, (32, 50, 3), dtype=np.uint8)

    def probabilities(window):
        def once(window):
            return np.asarray(jax.nn.softmax(logits_of(network, normalized(window)[None])[0]))

        return (once(window) + once(window[:, ::-1])[:, ::-1]) / 2

    # Windows at 0, 21, and at 42 moved back to 18.
    starts = [0, 18]
    total, counts = np.zeros((32, 50, 3)), np.zeros((1, 50, 1))
    for start in starts:
        total[:, start : start + 32] += probabilities(image[:, start : start + 32])
        counts[:, start : start + 32] += 1
    predictor = Predictor(model, variables, mode="slide", crop_size=32, flip=True)
    np.testing.assert_allclose(predictor.scores(image), total / counts, atol=1e-5)
    np.testing.assert_allclose(predictor.scores(image).sum(-1), 1, atol=1e-5)


def test_whole_images_at_several_scales(network):
    model, variables = network
    image = np.random.default_rng(2).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    expected = 0.0
    for size in ((24, 40), (36, 60)):
        x = resized(normalized(image), size)
        logits = logits_of(network, x[None])[0]
        expected = expected + resized(np.asarray(jax.nn.softmax(logits), np.float64), (24, 40)) / 2
    predictor = Predictor(model, variables, scales=(1.0, 1.5))
    np.testing.assert_allclose(predictor.scores(image), expected, atol=1e-5)


def test_one_look_is_the_whole_image_in_one_window(network):
    model, variables = network
    images = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    whole = Predictor(model, variables)
    slide = Predictor(model, variables, mode="slide", crop_size=32)
    np.testing.assert_array_equal(slide.labels(images), whole.labels(images))
    np.testing.assert_allclose(slide.scores(images[1]), whole.scores(images[1]), atol=1e-5)


# --- sizes and numbers ---------------------------------------------------------------------------


def test_one_compilation_serves_all_scales_and_images(network):
    predictor = Predictor(*network, mode="slide", crop_size=40, flip=True, scales=SCALES)
    before = window_scores.compilations()
    for seed, size in enumerate([(40, 72), (200, 40), (12, 12)]):
        images = np.random.default_rng(seed).integers(0, 256, (2, *size, 3), dtype=np.uint8)
        labels = predictor.labels(images)
        # Images of a batch do not mix, although their windows share batches.
        np.testing.assert_array_equal(labels[1], predictor(images[1]))
    assert window_scores.compilations() - before == 1


def test_enormous_logits_do_not_overflow(network):
    model, variables = network
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    options = {"mode": "slide", "crop_size": 32, "flip": True, "merge": "original"}
    head = variables["params"]["head"]
    base = Predictor(model, variables, **options).log_scores(image).max()
    conv = jax.tree.map(lambda x: 400 / base * x, head["fused_classifier"])
    large = {**variables["params"], "head": {**head, "fused_classifier": conv}}
    predictor = Predictor(model, variables | {"params": large}, **options)
    scores = predictor.log_scores(image)
    assert scores.max() > 200
    assert np.isfinite(scores).all()
    assert np.isfinite(predictor.scores(image)).all()


@pytest.mark.parametrize("size", [(1, 1), (17, 4000), (131, 5)])
@pytest.mark.parametrize("merge", merging.MERGES)
def test_images_of_any_shape(size, merge, network):
    options = {"mode": "slide", "crop_size": 32, "flip": True, "scales": (0.5, 1.5)}
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    predictor = Predictor(*network, merge=merge, **options)
    assert predictor(image).shape == size
    assert np.isfinite(predictor.log_scores(image)).all()


def test_windows_of_the_original():
    grid = windows.original_grid((100, 230), 96, several_scales=False)
    assert (grid.tops, grid.lefts) == ((0, 64), (0, 64, 128, 192))
    assert grid.covered == (160, 288)
    rows, columns = grid.counts()
    assert rows.tolist() == [1] * 64 + [2] * 32 + [1] * 64
    assert columns.max() == 2
    assert columns[70] == 2
    several = windows.original_grid((96, 97), 96, several_scales=True)
    assert (several.tops, several.lefts) == ((0,), (0, 48))
    inside = windows.grid((40, 100), 48, stride=32, overhang=False)
    assert (inside.tops, inside.lefts) == ((0,), (0, 32, 52))


@pytest.mark.parametrize(
    ("size", "scale", "base", "expected"),
    [
        ((1024, 2048), 1.0, 2048, (1024, 2048)),
        ((1024, 2048), 2.2, 2048, (2253, 4506)),
        ((360, 480), 0.75, 520, (293, 390)),
        ((480, 360), 0.75, 520, (390, 293)),
        ((33, 50), 1.0, None, (33, 50)),
        ((1, 4000), 0.5, None, (1, 2000)),
    ],
)
def test_sizes_of_the_original(size, scale, base, expected):
    assert windows.scaled_size(size, scale, base_size=base) == expected


@pytest.mark.parametrize(
    ("size", "scale", "limits", "expected"),
    [
        # mmcv 2.1: factor = min(2048 / long, 512 / short), each side is int(side * factor + 0.5).
        ((375, 500), 1.0, (2048, 512), (512, 683)),
        ((500, 375), 1.0, (2048, 512), (683, 512)),
        ((300, 1500), 1.0, (2048, 512), (410, 2048)),
        ((3000, 4000), 1.0, (2048, 512), (512, 683)),
        # mmsegmentation 0.x scales both limits, rounded down: (1536, 384) and (3584, 896).
        ((375, 500), 0.75, (2048, 512), (384, 512)),
        ((375, 500), 1.75, (2048, 512), (896, 1195)),
        ((333, 500), 0.7, (2048, 513), (359, 539)),
        ((10, 300), 1.0, (None, 20), (20, 600)),
        ((1, 4000), 1.0, (2048, 512), (1, 2048)),
        ((1024, 2048), 1.0, (4096, 1024), (1024, 2048)),
    ],
)
def test_sizes_of_mmsegmentation(size, scale, limits, expected):
    base, short = limits
    assert windows.scaled_size(size, scale, base_size=base, short_side=short) == expected


def test_the_short_side_is_scaled_and_labels_have_the_images_size(network):
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    by_short = Predictor(*network, short_side=36, base_size=80)
    by_long = Predictor(*network, base_size=60)
    scores = by_short.scores(image)
    assert scores.shape[:2] == by_short(image).shape == (24, 40)
    np.testing.assert_array_equal(scores, by_long.scores(image))
    assert np.abs(scores - Predictor(*network).scores(image)).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "slide"}, "crop_size is None"),
        ({"mode": "slid"}, "Did you mean 'slide'"),
        ({"merge": "mean"}, "merge is 'mean'"),
        ({"scales": ()}, "scales are ()"),
        ({"scales": (1.0, 0.0)}, "give numbers above 0"),
        ({"batch_size": 3}, "give a multiple of 8 devices"),
    ],
)
def test_faulty_settings(options, says, network):
    with pytest.raises(UserError) as caught:
        Predictor(*network, **options)
    assert says in str(caught.value)
