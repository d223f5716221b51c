"""The network and its first steps of training beside the original's, recorded in float64."""

import dataclasses
import functools
import itertools
import json
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import danet_jax
from danet_jax.configs import common
from danet_jax.network import abstract_variables
from danet_jax.ops.resize import resize_bilinear

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
HEADS = ("fused", "position", "channel")
FILES = ("danet_resnet50", "danet_resnet50_multigrid")


def seeded(shape: tuple[int, ...], name: str, salt: str) -> np.ndarray:
    generator = np.random.default_rng(zlib.crc32((salt + name).encode()))
    return generator.standard_normal(shape).astype(np.float32)


def seeded_parameter(name: str, shape: tuple[int, ...], salt: str) -> np.ndarray:
    """The reference's array of this name, in torch's layout, float32."""
    z = seeded(shape, name, salt)
    if name.endswith("gamma"):
        return 0.5 + 0.1 * z
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(z)
    if len(shape) == 4:
        return (z * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    if len(shape) == 1 and name.endswith("weight"):
        return (1 + 0.1 * z) * (0.25 if ".bn3." in name else 1)
    return 0.1 * z


@functools.lru_cache(maxsize=1)
def seeded_state_dict(model, salt: str) -> dict[str, np.ndarray]:
    """The reference's arrays by the original's names; another name would give other numbers."""
    shapes = {name: a.shape for name, a in danet_jax.to_torch(zeros(model), model).items()}
    return {name: seeded_parameter(name, shape, salt) for name, shape in shapes.items()}


def zeros(model) -> dict:
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_variables(model))


def norms(model, **tree: dict) -> dict[str, float]:
    """Norms of params or batch_stats by the original's names."""
    arrays = danet_jax.to_torch(zeros(model) | tree, model)
    found = {name: float(np.linalg.norm(array)) for name, array in arrays.items()}
    return {
        name: norm
        for name, norm in found.items()
        if ("running_" in name) == ("batch_stats" in tree)
    }


@dataclasses.dataclass(frozen=True)
class Run:
    """What the model gave, and what the original gave."""

    golden: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]
    # Norms by the original's names.
    gradients: dict[str, float]
    statistics: dict[str, float]
    # Of each step.
    metrics: list[dict[str, float]]
    # Where each ReLU of the first step is positive, in the order of calls.
    positive: dict[int, np.ndarray]


def run(name: str, dtype: str, *, steps: int, positive: dict[int, np.ndarray] | None = None) -> Run:
    """Evaluates once and trains some steps; `gradients` are on the given sides of the ReLUs."""
    golden = dict(np.load(GOLDEN / f"{name}.npz"))
    meta = json.loads(str(golden["meta"]))
    config = common.get_config()
    config.model.backbone = meta["backbone"]
    config.model.num_classes = meta["nclass"]
    config.model.multi_grid = (4, 8, 16) if meta["multi_grid"] else ()
    config.model.dropout_rate = 0.0
    # Each ReLU is to be called once; the others have the same gradients (test_recompute.py).
    config.model.remat = "none"
    config.optimizer.learning_rate = meta["lr0"]
    height, width, classes, salt = meta["H"], meta["W"], meta["nclass"], meta["salt"]
    image = seeded((2, 3, height, width), "image", salt).transpose(0, 2, 3, 1)
    generator = np.random.default_rng(zlib.crc32((salt + "label").encode()))
    label = generator.integers(-1, classes, (2, height // 8 + 1, width // 8 + 1))
    label = label.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    label = np.where(label < 0, 255, label).astype(np.uint8)

    model = danet_jax.create_model(config.model).clone(dtype=jnp.dtype(dtype))
    variables = danet_jax.from_torch(seeded_state_dict(model, salt), model)
    # In numpy: operations one by one, each compiled for each shape, would take most of the time.
    variables = jax.device_put(jax.tree.map(lambda x: np.asarray(x, dtype), variables))
    batch = {"image": jnp.asarray(image, dtype), "label": jnp.asarray(label)}

    @jax.jit
    def full_logits(variables, image):
        logits = model.apply(variables, image, train=False)
        size = image.shape[1:3]
        return {k: resize_bilinear(v, size, align_corners=True) for k, v in logits.items()}

    logits = full_logits(variables, batch["image"])
    logits = {k: np.asarray(v)[:, ::6, ::6].transpose(0, 3, 1, 2) for k, v in logits.items()}

    found: dict[int, np.ndarray] = {}
    create = functools.partial(danet_jax.create_train_state, config, model)
    first = jax.jit(create, static_argnums=1)(variables, meta["T"])
    step = jax.jit(functools.partial(step_with_sides, found))
    state, metrics = first, []
    for _ in range(steps):
        state, step_metrics = step(state, batch, positive, False)
        metrics.append(jax.tree.map(float, step_metrics))
        if len(metrics) == 1:
            second = state
    jax.effects_barrier()
    given = second if positive is None else step(first, batch, positive, True)[0]
    # torch's buffer after one step: the gradient and the decayed weights.
    buffer = jax.device_get(optax.tree.get(given.opt_state, "trace"))
    gradients = jax.tree.map(lambda b, p: b - 1e-4 * np.asarray(p), buffer, variables["params"])
    return Run(
        golden,
        logits,
        norms(model, params=gradients),
        norms(model, batch_stats=second.batch_stats),
        metrics,
        found,
    )


def step_with_sides(found, state, batch, positive, given):
    """A training step that notes on which side each ReLU lies, or is given it."""
    calls, plain = itertools.count(), jax.nn.relu

    def relu(x):
        call = next(calls)
        if positive is not None:
            return jnp.where(jnp.where(given, positive[call], x > 0), x, 0)
        jax.debug.callback(lambda sides: found.setdefault(call, np.asarray(sides)), x > 0)
        return plain(x)

    with pytest.MonkeyPatch.context() as patch:
        # That of modules, and that at the end of residual blocks.
        patch.setattr("flax.linen.relu", relu)
        patch.setattr("jax.nn.relu", relu)
        return danet_jax.train_step(state, batch)


def expected(golden: dict[str, np.ndarray], names: str, values: str) -> dict[str, float]:
    return dict(zip(golden[names], golden[values], strict=True))


def assert_norms_agree(ours: dict, theirs: dict, *, tolerance: float) -> None:
    """Relative, but for what is rounding only: the key bias's true gradient is 0."""
    assert ours.keys() == theirs.keys()
    floor = 1e-6 * max(theirs.values())
    wrong = {
        str(name): (ours[name], float(norm))
        for name, norm in theirs.items()
        if not abs(ours[name] - norm) <= tolerance * norm + floor
    }
    assert not wrong


@pytest.fixture(scope="module", params=FILES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def exact(name, light_compilation):
    with jax.enable_x64(True):
        # One step, since each takes seconds; float32 takes all three.
        return run(name, "float64", steps=1)


@pytest.fixture(scope="module")
def single(name, exact, light_compilation):
    return run(name, "float32", steps=3, positive=exact.positive)


def test_float64_logits_agree_with_the_original(exact):
    for name in HEADS:
        # Recorded as float32.
        theirs = exact.golden[f"eval_{name}"]
        assert np.abs(exact.logits[name] - theirs).max() <= 1e-6 * theirs.std(), name


def test_float64_training_agrees_with_the_original(exact):
    golden = exact.golden
    parts = [exact.metrics[0][f"loss_{name}"] for name in HEADS]
    np.testing.assert_allclose(parts, golden["loss_parts"], rtol=1e-7)
    assert_norms_agree(
        exact.gradients, expected(golden, "grad_names", "grad_norms"), tolerance=1e-6
    )
    assert_norms_agree(
        exact.statistics, expected(golden, "bn_names", "bn_norms_after_1"), tolerance=1e-9
    )
    assert exact.metrics[0]["loss"] == pytest.approx(golden["losses"][0], rel=1e-7)


def test_float32_logits_agree_with_the_original(single):
    for name in HEADS:
        theirs = single.golden[f"eval_{name}"]
        assert np.abs(single.logits[name] - theirs).max() <= 1e-3 * theirs.std(), name


def test_float32_losses_and_statistics_agree_with_the_original(single):
    golden = single.golden
    parts = [single.metrics[0][f"loss_{name}"] for name in HEADS]
    np.testing.assert_allclose(parts, golden["loss_parts"], rtol=1e-3)
    assert_norms_agree(
        single.statistics, expected(golden, "bn_names", "bn_norms_after_1"), tolerance=1e-4
    )
    np.testing.assert_allclose([m["loss"] for m in single.metrics], golden["losses"], rtol=1e-3)
    np.testing.assert_allclose([m["learning_rate"] for m in single.metrics], golden["lrs"], 1e-6)


def test_float32_gradients_agree_with_the_original(exact, single):
    """On the same sides of the ReLUs.

    Some ten of the ten million lie within float32's rounding of their kink, and each that changes
    its side moves norms by up to 1e-3; which ones do is a matter of the machine's products.
    """
    assert len(exact.positive) == 53
    assert_norms_agree(
        single.gradients, expected(single.golden, "grad_names", "grad_norms"), tolerance=3e-4
    )
