"""The package inside a program of somebody's own, which starts in a folder of its own."""

import collections
import dataclasses
import functools
import importlib.util
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jaxtyping
import ml_collections
import numpy as np
import pytest
from PIL import Image

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.configs import common, rules
from danet_jax.runs import config as configuration
from danet_jax.runs import history
from danet_jax.runs.folder import is_untrained_import
from danet_jax.runs.origin import check_loss, code_of, name_of, write_origin
from danet_jax.training import loop
from tests.launcher import ROOT
from tests.runs import succeed

SCRIPT = """
import sys
import jax.numpy as jnp
import numpy as np
import danet_jax
from danet_jax.configs import common
import configs, input_pipeline  # the user's own

assert configs.MINE and input_pipeline.MINE

class Squares:
    def __init__(self, count, seed):
        self.count, self.seed = count, seed
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        rng = np.random.default_rng([self.seed, index])
        image = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8)
        label = np.zeros((40, 48), np.int64)
        top, left = rng.integers(0, 20, 2)
        image[top:top + 16, left:left + 16] += 180
        label[top:top + 16, left:left + 16] = 1
        return image, label

def loss(logits, label):
    valid = label != 255
    truth = jnp.where(valid, label, 0)[..., None] == jnp.arange(2)
    return jnp.sum((logits - 4 * truth) ** 2 * valid[..., None]) / label.size

config = common.get_config()
config.model.update(backbone="resnet10", width=4, num_classes=2, multi_grid=())
config.data.update(crop_size=(32, 32), base_size=40, num_threads=2)
config.train.update(batch_size=4, steps=int(sys.argv[1]), log_every=1)
config.optimizer.learning_rate = 0.01
train, val = Squares(16, 0), Squares(4, 1)
names = ["ground", "square"]
try:
    danet_jax.train(
        config,
        "run",
        train_data=danet_jax.Examples(train, names, split="drawn"),
        eval_data=danet_jax.Examples(val, names, split="drawn too"),
        loss=loss if sys.argv[2] == "own" else None,
    )
except danet_jax.UserError as error:
    print("refused:", error)
    raise SystemExit
evaluation = danet_jax.evaluate("run", split=danet_jax.Examples(val, names))
predictor = danet_jax.Predictor.from_workdir("run")
labels = [predictor(val[i][0]) for i in range(4)]
right = np.mean([np.mean(l == val[i][1]) for i, l in enumerate(labels)])
print("accuracy", evaluation.scores.pixel_accuracy, right, predictor.names)
"""


@pytest.fixture
def script(tmp_path, workplace):
    """Runs the script in a folder that has a `configs` package and an `input_pipeline.py`."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "input_pipeline.py").write_text("MINE = True\n")
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "script.py", *map(str, arguments)],
            cwd=tmp_path,
            env=workplace.environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.end_to_end
def test_a_program_trains_on_its_own_examples_with_its_own_loss(script, tmp_path):
    done = script(6, "own")
    assert done.returncode == 0, done.stderr
    accuracy, right, names = done.stdout.splitlines()[-1].removeprefix("accuracy ").split(" ", 2)
    # The evaluation and the program's own count agree, and both are of its examples.
    np.testing.assert_allclose(float(accuracy), float(right), atol=1e-6)
    assert names == "('ground', 'square')"
    assert "drawn" in done.stderr
    assert "a program's own, script.loss" in done.stderr
    records = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    losses = [record["loss_fused"] for record in records if "loss_fused" in record]
    assert len(losses) == 6
    # Cross-entropy of two classes begins at about 0.7; this loss at about 8.
    assert 4 < losses[0] < 40
    origin = json.loads((tmp_path / "run" / "origin.json").read_text())
    assert origin["loss"] == "script.loss"
    assert origin["danet_jax"] == danet_jax.__version__
    # Its images are the program's, and lie in no folder.
    assert origin["data_dir"] is None

    refused = script(8, "none")
    said = " ".join(refused.stdout.split())
    assert "was trained with the loss script.loss, not with the config's loss" in said


@pytest.fixture
def as_installed(monkeypatch):
    """Nothing checks the annotations' types where no test does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def pairs(names=("ground", "square"), **options):
    image, label = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.int64)
    return danet_jax.Examples([(image, label)] * 8, list(names), **options)


def small_config():
    config = common.get_config()
    config.model.update(backbone="resnet10", width=4, num_classes=2)
    config.data.update(crop_size=(16, 16), base_size=16)
    config.train.update(batch_size=8, steps=2)
    return config


def per_pixel(logits, label):
    return logits[..., 0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"eval_data": pairs(["square", "ground"])},
            "classes of train_data are ground, square, and those of eval_data square, ground",
        ),
        ({"eval_data": None}, "give both, train_data= and eval_data="),
        ({"eval_data": [1, 2]}, r"eval_data is a list: give danet_jax\.Examples\(…, names\)"),
        ({"loss": lambda logits: 0.0}, r"loss= cannot be computed \(TypeError: .*\): give a func"),
        ({"loss": per_pixel}, r"loss= returns float32 \[8, 16, 16\]: give a function"),
        ({"loss": "dice"}, "loss= cannot be computed"),
        ({"loss": lambda logits, label: None}, "loss= returns NoneType"),
    ],
)
def test_what_does_not_fit_is_said_before_a_run_begins(as_installed, tmp_path, options, says):
    options = {"train_data": pairs(), "eval_data": pairs()} | options
    with pytest.raises(UserError, match=says):
        danet_jax.train(small_config(), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_an_evaluation_takes_a_split_or_examples(as_installed, finished):
    with pytest.raises(UserError, match="split is a dict: give"):
        danet_jax.evaluate(finished, split={})


def test_an_example_that_fails_is_named():
    class Broken:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return 1 / (1 - index)

    examples = danet_jax.Examples(Broken(), ["ground"], split="mine")
    with pytest.raises(ZeroDivisionError) as caught:
        examples[1]
    assert caught.value.__notes__ == ["raised by example 1 of mine"]


def test_the_package_shows_what_it_has():
    assert {"train", "Predictor", "Examples"} <= set(dir(danet_jax))
    assert all(hasattr(danet_jax, name) for name in dir(danet_jax))


def test_losses_are_told_apart_by_what_they_are_bound_to(tmp_path):
    def focal(labels, logits, *, gamma):
        raise NotImplementedError

    two, three = (functools.partial(focal, gamma=gamma) for gamma in (2.0, 3.0))
    write_origin(tmp_path, data_dir=None, loss=two)
    check_loss(tmp_path, two)
    with pytest.raises(UserError, match=r"focal\(gamma=2\.0\), not with .*focal\(gamma=3\.0\)"):
        check_loss(tmp_path, three)


MINE = """
WEIGHT = 2.0


def helper(x):
    return 4 * x


class Loss:
    def __call__(self, logits, label):
        return helper(logits)


def loss(logits, label):
    # A comment.
    def inner(x):
        return helper(x) * WEIGHT

    return inner(logits)
"""


def written(folder, text, *, name):
    """The module of a user's own with this text, as a program finds it that is started anew."""
    # In a folder of its own, since Python tells versions of a file by its second and size.
    folder = Path(tempfile.mkdtemp(dir=folder))
    (folder / "mine.py").write_text(text)
    specification = importlib.util.spec_from_file_location("mine", folder / "mine.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return getattr(module, name)


@pytest.mark.parametrize(
    ("former", "now", "differs"),
    [
        ("* WEIGHT", "* WEIGHT + 1", True),
        ("WEIGHT = 2.0", "WEIGHT = 3.0", True),
        ("return 4 * x", "return 8 * x", True),
        ("# A comment.", "# Another one.", False),
        ("WEIGHT = 2.0", "import jax\n\n\nWEIGHT = 2.0", False),
        ("return helper(logits)", "return helper(label)", False),
    ],
)
def test_the_code_of_a_loss_and_what_it_reads_are_compared(tmp_path, former, now, differs):
    write_origin(tmp_path, data_dir=None, loss=written(tmp_path, MINE, name="loss"))
    changed = written(tmp_path, MINE.replace(former, now), name="loss")
    warning = check_loss(tmp_path, changed)
    assert ("the code of the loss mine.loss, or a global variable" in warning) == differs
    assert (warning == "") == (not differs)


@pytest.mark.parametrize(
    ("name", "bind"),
    [
        ("Loss", lambda kind: kind()),
        ("loss", jax.jit),
        ("loss", lambda function: functools.partial(function, 1)),
    ],
)
def test_the_code_of_losses_that_are_bound_is_compared(tmp_path, name, bind):
    names, codes = set(), set()
    for text in (MINE, MINE.replace("4 * x", "5 * x")):
        loss = bind(written(tmp_path, text, name=name))
        names.add(name_of(loss))
        codes.add(code_of(loss))
    assert (len(names), len(codes)) == (1, 2)
    assert code_of(None) is None


def test_settings_that_an_own_loss_does_not_read_are_refused():
    fields = common.get_config().loss
    rules.check_beside_own_loss(fields)
    fields.class_weights = (1.0, 5.0)
    with pytest.raises(UserError, match=r"config.loss.class_weights is .*does not read it"):
        rules.check_beside_own_loss(fields)
    fields.added = "focal"
    rules.check_beside_own_loss(fields)


def test_bound_arrays_and_tuples_count():
    names = [
        name_of(functools.partial(per_pixel, value))
        for value in ((1, 2), (3, 4), np.array([1.0, 2.0]), np.array([1.0, 3.0]), 0.5)
    ]
    assert len(set(names)) == 5
    assert name_of(functools.partial(per_pixel, np.float64(0.5))) == names[-1]


def dice(labels, logits):
    raise NotImplementedError


class Weighted:
    """A loss that is an object."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, labels, logits):
        raise NotImplementedError

    def loss(self, labels, logits):
        raise NotImplementedError


def closure(weight):
    def loss(labels, logits):
        return weight

    return loss


def test_functions_that_hold_each_other_have_a_name():
    def loss(labels, logits):
        return helper(labels, logits)

    def helper(labels, logits):
        return loss(labels, logits)

    def bound(labels, logits):
        return parts, labels, logits

    parts = [functools.partial(bound, 1)]
    assert re.fullmatch(r".*loss\(helper=.*helper\(loss=…0\)\)", name_of(loss))
    assert re.fullmatch(r".*bound\(parts=\(…0\(1\)\)\)", name_of(bound))


def test_bound_functions_mappings_and_objects_count():
    losses = [
        functools.partial(per_pixel, dice),
        functools.partial(per_pixel, per_pixel),
        functools.partial(per_pixel, functools.partial(dice, 1)),
        functools.partial(per_pixel, {"gamma": 2}),
        functools.partial(per_pixel, {"gamma": 5}),
        functools.partial(per_pixel, {1, 2}),
        functools.partial(per_pixel, np.dtype("int8")),
        functools.partial(per_pixel, np.dtype("int16")),
        Weighted(1.0),
        Weighted(2.0),
        Weighted(1.0).loss,
        Weighted(2.0).loss,
        closure(1),
        closure(2),
    ]
    names = [name_of(loss) for loss in losses]
    assert len(set(names)) == len(names)
    assert not any("0x" in name for name in names)


def with_default(gamma):
    def loss(labels, logits, gamma=gamma):
        raise NotImplementedError

    return loss


def within(value):
    def loss(labels, logits):
        return value

    return loss


def wrapping(function):
    @functools.wraps(function)
    def loss(*arguments):
        return function(*arguments)

    return loss


class Slotted:
    __slots__ = ("weight",)

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, labels, logits):
        raise NotImplementedError


@dataclasses.dataclass
class Weights:
    values: np.ndarray

    def loss(self, labels, logits):
        raise NotImplementedError


def many(last):
    return Weights(np.append(np.ones(1999), last)).loss


@dataclasses.dataclass
class Hidden:
    values: np.ndarray = dataclasses.field(repr=False)
    scale: dataclasses.InitVar[float] = 1.0

    def __post_init__(self, scale):
        self.scaled = scale * self.values

    def __call__(self, labels, logits):
        raise NotImplementedError


class Updated:
    def __init__(self, scale):
        functools.update_wrapper(self, dice)
        self.scale = scale

    def __call__(self, labels, logits):
        raise NotImplementedError


def of_a_class(value):
    class Loss:
        def __call__(self, labels, logits):
            return value

    return Loss()


def method_with_default(value):
    class Loss:
        def loss(self, labels, logits, weight=value):
            raise NotImplementedError

    return Loss().loss


class Dictionary(dict):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def __call__(self, labels, logits):
        raise NotImplementedError


Pair = collections.namedtuple("Pair", "one other")


def doubled(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return 2 * function(*arguments)

    return wrapper


class Logging:
    def __init__(self):
        self.log = logging.getLogger(__name__)

    def __call__(self, labels, logits):
        raise NotImplementedError


def test_wrappers_and_lambdas_of_one_name_are_told_apart():
    assert name_of(wrapping(dice)) != name_of(doubled(dice))
    sums, products = (lambda a, b: a + b), (lambda a, b: a * b)
    assert name_of(sums) != name_of(products)
    assert name_of(sums) == name_of(sums)
    nested = "lambda a, b: sum(x for x in (a, b))"
    here, below = (eval(compile(lines + nested, "a.py", "eval")) for lines in ("", "\n\n"))
    assert name_of(here) == name_of(below)
    others = [functools.partial(dice, weights={0: value}.get) for value in (1.0, 2.0)]
    assert len(set(map(name_of, others))) == 2


def test_a_logger_of_a_loss_leads_to_no_other():
    before = name_of(Logging())
    logging.getLogger("another one").setLevel(logging.ERROR)
    assert name_of(Logging()) == before


def test_a_class_of_a_module_that_is_only_called_like_jax_is_not_jaxs(monkeypatch):
    monkeypatch.setattr(Updated, "__module__", "jax_losses")
    assert name_of(Updated(1.0)) != name_of(Updated(2.0))


def test_evaluations_of_other_images_are_kept_beside_each_other(tmp_path):
    record = dict.fromkeys(history.EVALUATION_KEY, 0)
    clear, foggy = ([[1, 2, mean, mean, mean]] for mean in (100.0, 180.0))
    found = []
    # As another library decodes a JPEG.
    decoded = [[1, 2, 100.5, 99.0, 101.0]]
    for fingerprint, score in ((clear, 0.9), (foggy, 0.4), (decoded, 0.8)):
        noted = {"fingerprint": fingerprint, "iou": [score], "images": 4, "step": 8}
        noted |= {"split": "val", "device": "cpu", "class_pixels": [4], "seconds_per_image": None}
        settings = {"mode": "whole", "crop_size": 0, "base_size": 0, "scales": [1.0]}
        noted["settings"] = settings | {"flip": False, "merge": "softmax"}
        noted["metrics"] = {"mean_iou": score}
        found = history.add_evaluation(tmp_path, record | noted)
    assert [one["iou"] for one in found] == [[0.4], [0.8]]


@pytest.mark.parametrize(
    "make",
    [
        with_default,
        lambda value: within(closure(value)),
        lambda value: wrapping(closure(value)),
        lambda value: within(Weighted(value)),
        lambda value: functools.partial(closure, Weighted(value)),
        lambda value: functools.partial(closure, gamma=[{"a": (value,)}]),
        lambda value: jax.jit(closure(value)),
        Slotted,
        many,
        lambda value: Hidden(np.full(3, value)),
        lambda value: Hidden(np.ones(3), scale=value),
        Updated,
        of_a_class,
        method_with_default,
        Dictionary,
        lambda value: within(Pair(value, 1)),
        lambda value: within(collections.OrderedDict(a=value)),
    ],
)
def test_what_a_loss_is_bound_to_at_any_depth_counts(make):
    assert name_of(make(2.0)) != name_of(make(3.0))
    assert name_of(make(2.0)) == name_of(make(2.0))
    assert len(name_of(make(2.0))) <= 420
    assert "0x" not in name_of(make(2.0))
    assert name_of(closure(1)) == name_of(closure(1))
    assert name_of(Weighted([1, 2])).endswith("Weighted('weight': (1, 2))")


def test_examples_of_a_class_of_ones_own_stay_that_under_another_name():
    class Inverted(danet_jax.Examples):
        def __getitem__(self, index):
            record = super().__getitem__(index)
            return record | {"label": 1 - record["label"]}

    image, label = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.int64)
    own = Inverted([(image, label)] * 2, ["ground", "square"])
    before = own.fingerprint
    other = own.called("mine")
    assert (other.split, own.split) == ("mine", "own examples")
    assert (other[0]["label"] == 1).all()
    assert other[0]["id"] == "mine 0"
    assert own.fingerprint == before != other.fingerprint


def test_an_index_error_of_an_example_does_not_end_the_examples():
    class Broken(list):
        def __getitem__(self, index):
            raise IndexError("mine")

    examples = danet_jax.Examples(Broken([1, 2]), ["ground"])
    with pytest.raises(IndexError, match="mine"):
        list(examples)


class Records:
    """Stands for the stream's place in the checkpoint of an earlier start."""

    def __init__(self, examples):
        self.identity = json.loads(json.dumps(examples.identity))


def test_a_run_does_not_go_on_with_other_evaluation_data(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    labels = [rng.integers(0, 2, (16, 16)) for _ in range(5)]

    def examples(labels):
        return danet_jax.Examples([(image, label) for label in labels], ["ground", "square"])

    before = Records(examples(labels)).identity
    loop._check_evaluated(before, examples(labels), tmp_path)
    # Earlier versions noted nothing.
    loop._check_evaluated(None, examples(labels), tmp_path)
    for others in (labels[:4], [*labels[:2], 1 - labels[2], *labels[3:]], labels[::-1]):
        with pytest.raises(UserError, match=r"scored on other data than config\.data\.eval_split"):
            loop._check_evaluated(before, examples(others), tmp_path)


def test_evaluations_of_other_labels_are_kept_apart(tmp_path):
    record = dict.fromkeys(history.EVALUATION_KEY, 0) | {"class_pixels": [3, 4], "iou": [0.5]}
    record |= {"fingerprint": [[1, 2, 3.0, 3.0, 3.0]]}
    other = record | {"class_pixels": [4, 3], "iou": [0.6]}
    assert not history.agree(record, other, history.COMPARABLE)
    old = {name: value for name, value in record.items() if name != "class_pixels"}
    assert history.agree(record, old, history.COMPARABLE)


@pytest.mark.parametrize(
    ("part", "steps", "untrained"),
    [
        ("network", ["0"], True),
        ("network", ["0", "4"], False),
        ("network", ["4"], False),
        ("backbone", ["0"], False),
    ],
)
def test_an_import_is_untrained_until_a_step_is_saved(tmp_path, part, steps, untrained):
    texts = dict.fromkeys(("file", "sha256", "names"), "x")
    source = texts | {"part": part, "arrays": 1, "reinitialized": [], "skipped": []}
    (tmp_path / "weights.json").write_text(json.dumps(source))
    for step in steps:
        (tmp_path / "checkpoints" / step).mkdir(parents=True)
    assert is_untrained_import(tmp_path) == untrained


def test_a_part_of_the_model_suffices():
    model = danet_jax.create_model({"backbone": "resnet10", "num_classes": 5, "multi_grid": []})
    assert (model.backbone, model.num_classes, model.multi_grid) == ("resnet10", 5, ())
    whole = common.get_config().model
    assert model.dropout_rate == whole.dropout_rate
    assert danet_jax.create_model({}) == danet_jax.create_model(whole)
    with pytest.raises(UserError, match=r"no field 'backbon'.*Did you mean 'backbone'\?"):
        danet_jax.create_model({"backbon": "resnet18"})
    with pytest.raises(UserError, match=r"There is no config\.model\.output_stride"):
        danet_jax.create_model(ml_collections.ConfigDict({"backbone": "resnet18"}))


def test_a_predictor_says_what_it_is_and_draws(finished, workplace):
    predictor = danet_jax.Predictor.from_workdir(finished)
    assert repr(predictor) == (
        "Predictor(resnet10 with position + channel attention, 11 classes, "
        f"step {predictor.step}; {predictor.settings.describe()})"
    )
    file = workplace.source / "val" / "val_0.png"
    drawn = predictor.overlay(file)
    image = np.asarray(Image.open(file))
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(predictor.overlay(image), drawn)
    assert (drawn != image).mean() > 0.5
    with pytest.raises(UserError, match="no colours to draw over"):
        predictor.overlay(np.random.default_rng(0).normal(size=(9, 9, 3)).astype(np.float32))


@pytest.mark.end_to_end
def test_classes_that_the_data_set_knows_need_not_be_given(workplace, tmp_path):
    source, data = tmp_path / "mine", tmp_path / "data"
    for split in ("train", "val"):
        for part, there in (("images", split), ("labels", f"{split}annot")):
            shutil.copytree(workplace.source / there, source / part / split)
    for file in source.glob("labels/*/*.png"):
        label = np.asarray(Image.open(file))
        Image.fromarray(np.where(label == 11, 255, label).astype(np.uint8)).save(file)
    (source / "classes.txt").write_text("\n".join(f"class {index}" for index in range(11)))
    fields = [f"--config.data.data_dir={data}", *workplace.config()[1:-1]]
    arguments = ["--config=folder:runlocal", *fields]
    succeed(workplace.run("prepare", f"--source={source}", *arguments))
    run = tmp_path / "run"
    short = ["--config.train.steps=2", "--config.train.eval_every=2"]
    succeed(workplace.run("train", f"--workdir={run}", *arguments, *short))
    assert json.loads((run / "config.json").read_text())["model"]["num_classes"] == 11


def test_a_run_whose_data_moved_says_where_it_was(finished, workplace, tmp_path):
    outcome = workplace.run(
        "eval", f"--workdir={finished}", f"--config.data.data_dir={tmp_path / 'nowhere'}"
    )
    assert outcome.status == 2
    said = " ".join(outcome.stderr.split())
    assert f"not prepared in {tmp_path / 'nowhere'}" in said
    assert f"trained on that in {workplace.data}" in said
    assert "--config.data.data_dir=FOLDER" in said


def test_open_classes_are_no_experiment_for_a_network():
    config = configuration.load_config(str(ROOT / "configs" / "folder.py"))
    assert config.model.num_classes is None
    with pytest.raises(UserError, match="num_classes is None; give a whole number"):
        danet_jax.create_model(config.model)


def test_own_examples_are_given_for_training_and_evaluation(tmp_path):
    image = np.zeros((32, 32, 3), np.uint8)
    own = danet_jax.Examples([(image, image[..., 0])] * 2, ["all"])
    with pytest.raises(UserError, match="give both, train_data= and eval_data="):
        danet_jax.train("camvid:runlocal", tmp_path / "run", train_data=own)
    assert not (tmp_path / "run").exists()
