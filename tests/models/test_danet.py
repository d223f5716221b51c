"""The whole network: its size, its outputs, what it takes and refuses."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.base.imagenet import MEAN, STD
from danet_jax.configs import common
from danet_jax.models.danet import Classifier, normalize
from danet_jax.models.resnet import RESNETS
from danet_jax.network import abstract_variables
from tests.training.tiny import random_batch, random_variables, tiny_config


def model_config(**fields):
    config = common.get_config().model
    for name, value in fields.items():
        config[name] = value
    return config


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# The first two are the published networks', counted in the original's code (v0.5.0).
PARAMETERS = {
    (("backbone", "resnet50"),): 47_462_651,
    (("backbone", "resnet101"),): 66_454_779,
    (("backbone", "resnet10"),): 6_409_371,
    (("backbone", "resnet18"),): 12_680_091,
    (("backbone", "resnet34"),): 22_788_251,
    (("backbone", "resnet152"),): 82_098_427,
    (("backbone", "resnet50"), ("num_classes", 150)): 47_664_260,
    (("backbone", "resnet50"), ("attention", ("position",))): 35_644_628,
    (("backbone", "resnet50"), ("attention", ("channel",))): 35_316_308,
    (("backbone", "resnet50"), ("attention", ())): 32_955_987,
    (("backbone", "resnet50"), ("stem", "deep")): 47_481_883,
    (("backbone", "resnet50"), ("stem", "deep"), ("deep_stem_width", 64)): 47_586_427,
    (("backbone", "resnet50"), ("auxiliary_head", True)): 49_827_342,
}


@pytest.mark.parametrize(
    "fields", PARAMETERS, ids=lambda fields: "-".join(str(v) for _, v in fields)
)
def test_number_of_parameters(fields):
    model = danet_jax.create_model(model_config(multi_grid=(), **dict(fields)))
    shapes = abstract_variables(model)
    assert count(shapes["params"]) == PARAMETERS[fields]
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_every_backbone_stands_in_the_table():
    assert {dict(fields)["backbone"] for fields in PARAMETERS} == set(RESNETS)


@pytest.mark.parametrize(
    ("attention", "names"),
    [
        (("position", "channel"), ["fused", "position", "channel"]),
        (("channel", "position"), ["fused", "position", "channel"]),
        (("position",), ["fused"]),
        (("channel",), ["fused"]),
        ((), ["fused"]),
    ],
)
def test_output_names(attention, names):
    model = danet_jax.create_model(tiny_config(attention=attention, auxiliary_head=True).model)
    shapes = abstract_variables(model)
    rngs = {"dropout": jax.random.key(0)}
    image = jnp.zeros((2, 33, 48, 3), jnp.uint8)

    def outputs(*, train):
        return jax.eval_shape(
            lambda v: model.apply(v, image, train=train, rngs=rngs, mutable=["batch_stats"])[0],
            shapes,
        )

    prediction, training = outputs(train=False), outputs(train=True)
    assert sorted(prediction) == sorted(names)
    assert sorted(training) == sorted([*names, "auxiliary"])
    assert {logits.shape for logits in training.values()} == {(2, 5, 6, 3)}


# --- numbers of a tiny network -------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    model = danet_jax.create_model(tiny_config().model)
    image = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
    return model, random_variables(model), image


@pytest.fixture(scope="module")
def float32_logits(tiny, light_compilation):
    model, variables, image = tiny
    by_hand = (image / 255 - np.array(MEAN)[None, None, None]) / np.array(STD)[None, None, None]
    return jax.jit(lambda x: model.apply(variables, x, train=False))(by_hand.astype(np.float32))


def test_uint8_is_normalised_with_imagenets_statistics():
    image = jnp.array([0, 255, 128], jnp.uint8).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(
        normalize(image).ravel(),
        [-0.485 / 0.229, (1 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225],
        rtol=1e-6,
    )
    image = image.astype(jnp.float32)
    np.testing.assert_array_equal(normalize(image), image)


def test_uint8_image_equals_its_normalised_float(tiny, float32_logits, light_compilation):
    model, variables, image = tiny
    logits = jax.jit(lambda x: model.apply(variables, x, train=False))(image)
    for name, expected in float32_logits.items():
        scale = np.abs(expected).max()
        assert scale > 0.1
        np.testing.assert_allclose(logits[name], expected, atol=1e-5 * scale)


def test_bfloat16_computes_near_float32(tiny, float32_logits, light_compilation):
    model, variables, image = tiny
    narrow = model.clone(dtype=jnp.dtype("bfloat16"))
    shapes = abstract_variables(narrow)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    logits = jax.jit(lambda x: narrow.apply(variables, x, train=False))(image)
    for name, expected in float32_logits.items():
        assert logits[name].dtype == jnp.float32
        error = np.linalg.norm(logits[name] - expected) / np.linalg.norm(expected)
        # More than float32's rounding: the activations are bfloat16.
        assert 1e-4 < error < 0.05, name


def test_dropout_drops_whole_channels():
    channels = 64
    module = Classifier(channels, dropout_rate=0.25, dtype=jnp.dtype("float32"))
    identity = {
        "conv": {"kernel": jnp.eye(channels)[None, None], "bias": jnp.zeros(channels)},
    }
    x = jax.random.uniform(jax.random.key(9), (2, 3, 4, channels), minval=1.0, maxval=2.0)

    def dropped(key, *, train=True):
        rngs = {"dropout": jax.random.key(key)}
        return np.asarray(module.apply({"params": identity}, x, train=train, rngs=rngs))

    np.testing.assert_array_equal(dropped(0, train=False), x)
    kept = dropped(0)[:, :1, :1] != 0
    np.testing.assert_allclose(dropped(0), np.where(kept, x / 0.75, 0), rtol=1e-6)
    # A quarter of 128 channels, within 4 standard deviations; other ones for another image or key.
    assert abs(kept.mean() - 0.75) < 4 * (0.25 * 0.75 / 128) ** 0.5
    assert (kept[0] != kept[1]).any()
    assert ((dropped(1)[:, :1, :1] != 0) != kept).any()


# --- what create_model refuses -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "fragments"),
    [
        ("backbone", "resnet5", ("config.model.backbone", "'resnet5'", "Did you mean 'resnet50'?")),
        ("output_stride", 32, ("config.model.output_stride", "32", "8, 16")),
        ("stem", "deeep", ("config.model.stem", "'deeep'", "Did you mean 'deep'?")),
        (
            "channel_energy",
            "max-minus",
            ("config.model.channel_energy", "'max-minus'", "Did you mean 'max_minus'?"),
        ),
        ("dtype", "float16", ("config.model.dtype", "'float16'", "Did you mean 'bfloat16'?")),
        (
            "attention",
            ("position", "chanel"),
            ("config.model.attention", "'chanel'", "Did you mean 'channel'?"),
        ),
        (
            "multi_grid",
            (4, 8),
            ("config.model.multi_grid", "2 dilations", "resnet101", "3 blocks", "()"),
        ),
    ],
)
def test_unknown_values_are_errors_that_say_what_is_right(field, value, fragments):
    with pytest.raises(UserError) as error:
        danet_jax.create_model(model_config(**{field: value}))
    for fragment in fragments:
        assert fragment in str(error.value)


# Values that mean nothing, or that Python takes for others: True is 1, 8.0 is 8, a text is a
# sequence of letters.
WRONG_KINDS = [
    *(
        ("num_classes", value, "from 1 to 255")
        for value in (0, -1, 256, 300, 19.0, True, "19", None)
    ),
    ("backbone", 50, "resnet50"),
    ("backbone", ["resnet50"], "resnet50"),
    ("output_stride", 8.0, "8"),
    ("output_stride", "8", "8, 16"),
    ("output_stride", True, "8, 16"),
    *(("width", value, "1 or more") for value in (0, -4, 64.0, "64", None, True)),
    ("deep_stem_width", 0, "1 or more"),
    *(("energy_memory", value, "0 or more MiB") for value in (-1, 0.5, "auto")),
    *(("multi_grid", value, "(4, 8, 16)") for value in (4, "4,8,16", (4, 8.0, 16), (0, 1, 2))),
    *(("attention", value, '("position",)') for value in ("position", None, 2)),
    ("attention", (1,), "'position', 'channel'"),
    *(
        ("dropout_rate", value, "0 to below 1")
        for value in (-0.1, 1.0, 10, float("nan"), "0.1", None)
    ),
    *(("align_corners", value, "True or False") for value in (1, "False", None)),
    ("auxiliary_head", 0, "True or False"),
    ("stem", None, "deep"),
    ("dtype", jnp.float32, "'float32', 'bfloat16'"),
    ("pretrained_backbone", 1, "file"),
]


@pytest.mark.parametrize(("field", "value", "remedy"), WRONG_KINDS)
def test_every_field_refuses_values_of_another_kind(field, value, remedy):
    config = ml_collections.ConfigDict(model_config().to_dict() | {field: value})
    with pytest.raises(UserError) as error:
        danet_jax.create_model(config)
    assert f"config.model.{field} is " in str(error.value)
    assert remedy in str(error.value)


def test_no_field_of_the_model_is_left_unchecked():
    assert set(model_config()) == {field for field, *_ in WRONG_KINDS} | {
        "channel_energy",
        "conv_weight_gradient",
        "position_attention",
        "remat",
    }
    for field in model_config():
        without = {name: value for name, value in model_config().items() if name != field}
        with pytest.raises(UserError, match=rf"no config\.model\.{field}:"):
            danet_jax.create_model(ml_collections.ConfigDict(without))
    with pytest.raises(UserError, match="no field 'heads'"):
        danet_jax.create_model(ml_collections.ConfigDict({**model_config(), "heads": 2}))


def test_resnet18_takes_the_first_two_of_three_dilations():
    assert danet_jax.create_model(model_config(backbone="resnet18")).multi_grid == (4, 8, 16)


def test_rematerialised_blocks_give_the_same_gradients(light_compilation):
    found = {}
    for remat in ("none", "block"):
        model = danet_jax.create_model(tiny_config(remat=remat, dropout_rate=0.0).model)
        variables = random_variables(model)
        batch = jax.tree.map(jnp.asarray, random_batch(2))

        def loss(params, model=model, variables=variables, image=batch["image"]):
            logits, _ = model.apply(
                variables | {"params": params}, image, train=True, mutable=["batch_stats"]
            )
            return sum(jnp.mean(jnp.square(x)) for x in logits.values())

        gradient = jax.grad(loss)
        blocks = str(jax.make_jaxpr(gradient)(variables["params"])).count("remat")
        found[remat] = jax.device_get(jax.jit(gradient)(variables["params"])), blocks
    (expected, none), (ours, blocks) = found["none"], found["block"]
    assert none == 0
    assert blocks >= 4
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * largest)
