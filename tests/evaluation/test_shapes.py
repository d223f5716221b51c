"""Images of many sizes: few compilations, little padding, the same scores."""

import time

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import danet_jax
from danet_jax.evaluation import merging, programs, windows
from danet_jax.evaluation.padding import padded_logits
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.shapes import MOST, Shape, Shapes
from danet_jax.models import danet
from tests.training.tiny import random_variables, tiny_config


def network(**fields):
    model = danet_jax.create_model(tiny_config(**fields).model)
    return model, random_variables(model)


def photo(size, seed=0):
    """Areas of 8 pixels, so that labels come in areas."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-size[0] // 8), -(-size[1] // 8), 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]


def many_sizes(low, high, count=50, seed=0):
    rng = np.random.default_rng(seed)
    sizes: set[tuple[int, int]] = set()
    while len(sizes) < count:
        height, width = rng.integers(low, high + 1, 2)
        sizes.add((int(height), int(width)))
    return sorted(sizes, key=lambda size: hash(size))


def photo_sizes(count=50):
    """As of PASCAL VOC: a long side of 500, mostly upright."""
    rng = np.random.default_rng(1)
    sizes = set()
    while len(sizes) < count:
        short = int(rng.integers(281, 401))
        sizes.add((500, short) if rng.random() < 0.3 else (short, 500))
    return sorted(sizes)


# --- which shapes --------------------------------------------------------------------------------


def padding(shapes, sizes):
    """Pixels of the shapes by those of the images."""
    padded = sum(np.prod(shapes.fit(size).size) for size in sizes)
    return padded / sum(np.prod(size) for size in sizes)


@pytest.mark.parametrize(
    ("sizes", "most_padding"), [(photo_sizes(), 1.25), (many_sizes(200, 683), 1.5)]
)
def test_sizes_that_are_known_have_few_shapes(sizes, most_padding):
    shapes = Shapes()
    shapes.expect(sizes)
    assert padding(shapes, sizes) <= most_padding
    assert len(shapes.shapes) <= MOST
    # Of many images of each size a closer fit is worth its compilation.
    closer = Shapes()
    closer.expect(40 * sizes)
    assert padding(closer, sizes) <= padding(shapes, sizes)
    assert len(closer.shapes) <= MOST
    for found in (shapes, closer):
        assert all(found.fit(size).holds(size) for size in sizes)


@pytest.mark.parametrize("sizes", [photo_sizes(), many_sizes(200, 683)])
def test_sizes_that_come_unannounced_have_few_shapes_too(sizes):
    shapes = Shapes()
    assert padding(shapes, sizes) <= 2.5
    assert len(shapes.shapes) <= MOST


def test_images_of_one_size_are_not_padded():
    for shapes in (Shapes(), Shapes()):
        shapes.expect([(375, 500)] * 30)
        assert shapes.fit((375, 500)) == Shape(375, 500, True)
        assert len(shapes.shapes) == 1
    two = Shapes()
    two.expect([(375, 500)] * 300 + [(500, 375)] * 200)
    assert {shape.size for shape in two.shapes} == {(375, 500), (500, 375)}
    assert all(shape.is_exact for shape in two.shapes)


def test_panoramas_do_not_make_a_shape_that_fills_memory():
    sizes = [(100, 9000), (9000, 100), (120, 8000), (8000, 120)]
    for announced in (True, False):
        shapes = Shapes()
        if announced:
            shapes.expect(sizes)
        assert max(np.prod(shapes.fit(size).size) for size in sizes) <= 4 * 1_080_000


def test_thousands_of_sizes_take_seconds():
    start = time.process_time()
    shapes = Shapes()
    shapes.expect(many_sizes(100, 2000, 5000))
    assert len(shapes.shapes) <= 2 * MOST
    assert time.process_time() - start < 5


# --- the same scores -----------------------------------------------------------------------------

# An odd and an even one at each stride, and a sliver.
SIZES = [(37, 61), (48, 64), (90, 7)]
NETWORKS = {
    "stride 8": {},
    "stride 16, deep stem, corners not aligned": {
        "output_stride": 16,
        "stem": "deep",
        "align_corners": False,
    },
    "bottlenecks, energies by tiles, remat": {
        "backbone": "resnet50",
        "width": 2,
        "multi_grid": (4, 8, 16),
        "position_attention": "chunked",
        "remat": "block",
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_changes_no_score(name, light_compilation):
    model, variables = network(**NETWORKS[name])
    padded, exact = Predictor(model, variables), Predictor(model, variables)
    padded._shapes.shapes = [Shape(96, 112, False)]
    for size in SIZES:
        exact._shapes.shapes = [Shape(*size, True)]
        image = photo(size)
        padded._shapes._most = 1
        expected = exact.scores(image)
        np.testing.assert_allclose(padded.scores(image), expected, atol=1e-4)
        clear = np.diff(np.sort(expected, axis=-1)[..., -2:], axis=-1)[..., 0] > 2e-4
        np.testing.assert_array_equal(padded(image)[clear], expected.argmax(-1)[clear])


def test_mirror_images_and_scales_of_padded_images(light_compilation):
    model, variables = network()
    options = {"flip": True, "scales": (1.3,), "merge": "original"}
    padded, exact = (Predictor(model, variables, **options) for _ in range(2))
    padded._shapes.shapes = [Shape(96, 112, False)]
    padded._shapes._most = 1
    for size in ((37, 61),):
        exact._shapes.shapes = [Shape(*scaled, True) for scaled in exact.settings.sizes(size)]
        image = photo(size)
        expected = exact.log_scores(image)
        found = padded.log_scores(image)
        np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


# --- how often, how long -------------------------------------------------------------------------


def test_fifty_sizes_compile_six_times_at_most(light_compilation):
    sizes = many_sizes(20, 68)
    predictor = Predictor(*network(num_classes=5))
    predictor.expect(sizes)
    before = programs.whole_labels.compilations()
    for size in sizes:
        assert predictor(photo(size)).shape == size
    assert programs.whole_labels.compilations() - before <= 6


def test_windows_and_scales_of_fifty_sizes_compile_little(light_compilation):
    functions = (merging._add_window, merging._resized_rows, merging._moved_up, windows.extract)
    sizes = many_sizes(20, 68)
    predictor = Predictor(
        *network(num_classes=7), mode="slide", crop_size=32, flip=True, scales=(0.5, 1.0)
    )
    predictor.expect(sizes)
    before = programs.window_scores.compilations(), [f._cache_size() for f in functions]
    for size in sizes[:25]:
        assert predictor(photo(size)).shape == size
    assert programs.window_scores.compilations() - before[0] == 1
    for function, count in zip(functions, before[1], strict=True):
        assert function._cache_size() - count <= 6


def test_fifty_sizes_take_little_longer_than_one(light_compilation):
    sizes = [tuple(side // 5 for side in size) for size in photo_sizes()]
    model, variables = network(num_classes=8)

    def prepared(sizes):
        predictor = Predictor(model, variables)
        predictor.expect(sizes)
        images = [photo(size) for size in sizes]
        return lambda: [predictor(image) for image in images]

    def seconds(run):
        start = time.process_time()
        run()
        return time.process_time() - start

    many, one = prepared(sizes), prepared([(75, 100)] * 50)
    # The first passes compile. The others run in turns, since other work slows both.
    passes = [(seconds(many), seconds(one)) for _ in range(5)][1:]
    of_many, of_one = map(min, zip(*passes, strict=True))
    assert of_many <= 1.5 * of_one


class Pooling(nn.Module):
    """Mixes all positions, also those of padding."""

    @nn.compact
    def __call__(self, x):
        return x + x.mean((1, 2), keepdims=True)


def test_an_unknown_module_of_the_head_is_not_padded(monkeypatch):
    model, variables = network(attention=("channel",))
    monkeypatch.setattr(danet, "ChannelAttention", lambda *_, name: Pooling(name=name))
    with pytest.raises(ValueError, match="say here how Pooling leaves padding out"):
        padded_logits(model, variables, jnp.array(photo((40, 48)))[None], jnp.array((33, 47)))
