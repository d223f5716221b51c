"""Every config: it loads, and says what its recipe says."""

import json
import math
from pathlib import Path

import jax
import pytest

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.configs import common, rules
from danet_jax.evaluation.eval_config import settings_of
from danet_jax.input_pipeline.builders import DATA_SETS
from danet_jax.input_pipeline.storage.catalogue import find_builder
from danet_jax.network import abstract_variables
from danet_jax.runs.config import apply_override, flat, load_config, restore
from danet_jax.tasks.doubts import doubts
from tests.launcher import ROOT
from tests.recipes import recipe_of

# Of the original's recipe. Published code counts 66,454,779 with 19 classes; each class more costs
# 513 in each of three classifiers.
PARAMETERS = {
    "ade20k": 66_656_388,
    "camvid": 66_442_467,
    "cityscapes": 66_454_779,
    "coco_stuff_10k": 66_688_707,
    "coco_stuff_164k": 66_688_707,
    "folder": 66_428_616,
    "pascal_context": 66_516_339,
    "pascal_voc": 66_457_857,
    "synthetic_scenes": 796_725,
}
# Of mmsegmentation's: a deep stem, and an auxiliary head on layer 3 with 257 for each class.
MMSEG_PARAMETERS = {"ade20k": 69_073_978, "cityscapes": 68_838_702}


def count_parameters(config):
    model = danet_jax.create_model(config.model)
    shapes = abstract_variables(model)["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def load(name, argument="", *overrides):
    spec = f"{ROOT / 'configs' / name}.py" + (f":{argument}" if argument else "")
    return load_config(spec, overrides)


def test_the_table_holds_every_config():
    files = {path.stem for path in (ROOT / "configs").glob("*.py")}
    assert files - {"__init__", "common", "recipes", "rules"} == PARAMETERS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_network_of_each_config(name):
    # The number of classes of a folder is its own.
    argument = "classes=2" if name == "folder" else ""
    assert count_parameters(load(name, argument)) == PARAMETERS[name]


@pytest.mark.parametrize("name", MMSEG_PARAMETERS)
def test_the_network_of_mmsegmentation(name):
    assert count_parameters(load(name, "recipe=mmseg")) == MMSEG_PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "synthetic_scenes"])
@pytest.mark.parametrize("argument", ["", "recipe=mmseg", "runlocal"])
def test_each_config_is_whole(name, argument):
    config = load(name, argument)
    rules.check(config)
    assert flat(config).keys() == flat(common.get_config()).keys()
    builder = find_builder(config.data.name, Path("nowhere"))
    if builder.labels is not None:
        assert config.model.num_classes == builder.labels.num_classes
    assert builder.name == config.data.name.split("/")[0] == name


def test_every_data_set_has_a_config():
    assert DATA_SETS.keys() == PARAMETERS.keys()


# --- training and evaluation fit -----------------------------------------------------------------

RECIPES = [name for name in PARAMETERS if name != "synthetic_scenes"]
# Height and width of photographs where a data set's images differ: 4:3, 3:4, 3:2, 16:9, 1:1, from
# a small one to a camera's.
PHOTOGRAPHS = [(375, 500), (500, 375), (333, 500), (256, 256), (1080, 1920), (3000, 4000)]
SIZES = {"cityscapes": [(1024, 2048)], "camvid": [(360, 480)]}
MULTI_GRID = (4, 8, 16)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("recipe", ["original", "mmseg"])
@pytest.mark.parametrize(
    "more", ["", "runlocal", "crop=192x256", "crop=256", "crop=769", "backbone=resnet18,crop=128"]
)
@pytest.mark.parametrize("stride", [8, 16])
def test_every_recipe_evaluates_at_sizes_that_it_trains_at(name, recipe, more, stride):
    argument = f"recipe={recipe}" + (f",{more}" if more else "")
    config = load(name, argument, f"--config.model.output_stride={stride}")
    for size in SIZES.get(name, PHOTOGRAPHS):
        assert doubts(config, settings_of(config.eval), {size: 10}) == []
    low, high = (config.data.base_size * scale for scale in config.data.scale_range)
    if config.eval.short_side:
        assert low <= config.eval.short_side <= high


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cityscapes", "windows of 768×768, long side 2048, scale 1, mirrored, original"),
        ("ade20k", "windows of 576×576, long side 608, scale 1, mirrored, original"),
        ("pascal_context", "windows of 576×576, long side 608, scale 1, mirrored, original"),
        ("camvid", "whole image, scale 1, softmax"),
        ("folder", "whole image, short side 520 (long side at most 2080), scale 1, softmax"),
        ("cityscapes:recipe=mmseg", "whole image, scale 1, softmax"),
        ("cityscapes:recipe=mmseg,crop=769", "windows of 769×769, scale 1, softmax"),
        (
            "ade20k:recipe=mmseg",
            "whole image, short side 512 (long side at most 2048), scale 1, softmax",
        ),
        (
            "pascal_voc:recipe=mmseg",
            "whole image, short side 512 (long side at most 2048), scale 1, softmax",
        ),
        (
            "coco_stuff_164k:recipe=mmseg",
            "whole image, short side 512 (long side at most 2048), scale 1, softmax",
        ),
        (
            "folder:runlocal",
            "whole image, short side 240 (long side at most 960), scale 1, softmax",
        ),
    ],
)
def test_the_inference_settings_of_each_recipe(name, settings):
    assert settings_of(load(*name.split(":")).eval).describe() == settings


def test_sizes_and_dilations_follow_what_is_given_besides():
    config = load("folder", "", "--config.data.base_size=300")
    assert (config.eval.short_side, config.eval.base_size) == (300, 1200)
    config = load("folder", "", "--config.eval.short_side=400")
    assert (config.eval.short_side, config.eval.base_size) == (400, 1600)
    config = load("folder", "", "--config.eval.base_size=640")
    assert (config.eval.short_side, config.eval.base_size) == (0, 640)
    config = load("ade20k", "", "--config.data.crop_size=(192,256)")
    assert config.eval.crop_size == 256


@pytest.mark.parametrize(
    ("argument", "overrides", "dilations"),
    [
        ("", [], MULTI_GRID),
        ("crop=256", [], MULTI_GRID),
        ("crop=255x900", [], ()),
        ("crop=192x256", ["--config.model.output_stride=16"], ()),
        ("crop=512", ["--config.model.output_stride=16"], MULTI_GRID),
        ("crop=511", ["--config.model.output_stride=16"], ()),
        ("", ["--config.data.crop_size=(192,256)"], ()),
        ("crop=192", ["--config.model.multi_grid=(2,4,8)"], (2, 4, 8)),
        ("", ["--config.model.multi_grid=()"], ()),
        ("recipe=mmseg", [], ()),
    ],
)
def test_dilations_fit_the_map_of_a_crop(argument, overrides, dilations):
    assert load("folder", argument, *overrides).model.multi_grid == dilations


def test_the_open_fields_are_listed_and_one_config_may_leave_them_so():
    config = common.get_config()
    fields = flat(config)
    # configs/folder.py alone leaves the number of classes open.
    always = common.OPEN.keys() - {"model.num_classes"}
    assert {name for name, value in fields.items() if value is None} == always
    recorded = json.loads(config.to_json())
    assert flat(restore(recorded)) == fields
    # A record of the version before has no short side: images had their own size.
    del recorded["eval"]["short_side"]
    recorded["eval"]["base_size"] = 0
    recorded["model"]["multi_grid"] = [4, 8, 16]
    old = restore(recorded)
    assert (old.eval.short_side, old.model.multi_grid) == (0, MULTI_GRID)
    for name, example in common.OPEN.items():
        apply_override(config, f"--config.{name}={example}")
        assert flat(config)[name] == example
    with pytest.raises(UserError, match=r"config.eval.short_side=many: it takes a whole number"):
        apply_override(common.get_config(), "--config.eval.short_side=many")


def test_published_recipes_have_the_published_dilations():
    for name in RECIPES:
        assert load(name).model.multi_grid == MULTI_GRID
        assert load(name, "recipe=mmseg").model.multi_grid == ()


@pytest.mark.parametrize(
    ("steps", "evaluations", "checkpoints"),
    [(89_250, 3718, 371), (11_010, 458, 50), (400, 50, 50), (60, 15, 15), (3, 1, 1)],
)
def test_intervals_follow_the_length_of_training(steps, evaluations, checkpoints):
    config = load("camvid")
    common.complete_intervals(config, steps)
    assert (config.train.eval_every, config.train.checkpoint_every) == (evaluations, checkpoints)
    config = load("camvid", "", "--config.train.eval_every=7")
    common.complete_intervals(config, steps)
    assert (config.train.eval_every, config.train.checkpoint_every) == (7, checkpoints)


# --- what the recipes say ------------------------------------------------------------------------


def test_the_originals_recipe_for_cityscapes():
    config = load("cityscapes")
    assert config.model.backbone == "resnet101"
    assert config.model.multi_grid == (4, 8, 16)
    assert config.model.align_corners
    assert not config.model.auxiliary_head
    assert (config.data.crop_size, config.data.base_size) == ((768, 768), 1024)
    assert config.data.scale_range == (0.75, 2.0)
    assert (config.train.batch_size, config.train.epochs) == (8, 240)
    assert config.optimizer.learning_rate == pytest.approx(0.003)
    assert (config.optimizer.weight_decay, config.optimizer.head_factor) == (1e-4, 10.0)
    assert config.eval.preset == "single"


def test_mmsegmentations_recipe_for_cityscapes():
    config = load("cityscapes", "recipe=mmseg,backbone=resnet50")
    assert config.model.backbone == "resnet50"
    assert (config.model.multi_grid, config.model.stem) == ((), "deep")
    assert not config.model.align_corners
    assert config.model.auxiliary_head
    assert (config.data.crop_size, config.data.scale_range) == ((512, 1024), (0.5, 2.0))
    assert (config.data.cat_max_ratio, config.data.photometric_distortion) == (0.75, True)
    assert (config.train.batch_size, config.train.steps) == (8, 40_000)
    assert config.optimizer.learning_rate == pytest.approx(0.01)
    assert config.optimizer.min_learning_rate == pytest.approx(1e-4)
    assert (config.optimizer.weight_decay, config.optimizer.head_factor) == (5e-4, 1.0)
    assert config.loss.normalization == "all"

    square = load("cityscapes", "recipe=mmseg,crop=769")
    assert square.model.align_corners
    assert square.train.steps == 80_000
    assert (square.eval.mode, square.eval.crop_size) == ("slide", 769)


@pytest.mark.parametrize(
    ("name", "rate", "batch_size", "epochs"),
    [
        ("ade20k", 0.01, 16, 240),
        ("pascal_context", 0.001, 16, 240),
        ("pascal_voc", 0.001, 16, 240),
        ("pascal_voc:split=train", 0.0001, 16, 240),
        ("coco_stuff_10k", 0.001, 16, 180),
        ("coco_stuff_164k", 0.001, 16, 180),
    ],
)
def test_rates_and_lengths_of_the_original(name, rate, batch_size, epochs):
    config = load(*name.split(":"))
    assert config.optimizer.learning_rate == pytest.approx(rate / 8 * batch_size)
    assert (config.train.batch_size, config.train.epochs) == (batch_size, epochs)


def test_large_batches_warm_up_and_decay_no_norm():
    config, original = load("cityscapes", "recipe=large_batch"), load("cityscapes")
    assert (config.train.batch_size, config.train.epochs) == (64, 240)
    assert config.optimizer.learning_rate == pytest.approx(0.003 * 8)
    assert config.optimizer.warmup == pytest.approx(5 / 240)
    assert not config.optimizer.decay_norm_and_bias
    same = original.copy_and_resolve_references()
    same.train.batch_size = 64
    same.optimizer = config.optimizer
    assert same == config
    assert load("ade20k", "recipe=large_batch,batch=256").optimizer.learning_rate == pytest.approx(
        0.01 * 256 / 8
    )
    with pytest.raises(ValueError, match="runlocal trains with batches of 8"):
        load("camvid", "runlocal,recipe=large_batch")


def test_the_rate_follows_the_batch():
    for recipe in ("original", "mmseg"):
        one, two = (load("ade20k", f"recipe={recipe},batch={size}") for size in (16, 32))
        assert two.train.batch_size == 32
        ratio = two.optimizer.learning_rate / one.optimizer.learning_rate
        assert ratio == pytest.approx(2)


def test_further_arguments():
    assert load("cityscapes", "coarse").data.train_split == "train+train_extra"
    assert load("pascal_voc").data.train_split == "train+sbd"
    assert load("pascal_voc", "split=train").data.train_split == "train"
    # One loss has another rate than three, and the ablation another length.
    config = load("cityscapes", "attention=position,batch=16")
    assert config.optimizer.learning_rate == pytest.approx(0.02)
    assert config.train.epochs == 180
    config = load("coco_stuff_10k", "attention=none")
    assert config.train.epochs == load("coco_stuff_10k").train.epochs == 180
    assert load("cityscapes", "recipe=mmseg,attention=none").train.steps == 40_000
    config = load("pascal_context", "classes=60,order=voc_first,attention=none")
    assert (config.data.name, config.model.num_classes) == ("pascal_context/60_voc_first", 60)
    assert config.model.attention == ()
    config = load("folder", "classes=5,name=my_photos,crop=96x128")
    assert (config.data.name, config.model.num_classes) == ("folder/my_photos", 5)
    assert config.data.crop_size == (96, 128)


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("recipy=mmseg", "argument 'recipy' is not known. Did you mean 'recipe'"),
        ("recipe=paddle", "recipe=paddle: give one of original, mmseg"),
        ("backbone=resnet51", "backbone=resnet51: give one of resnet10,"),
        ("attention=all", "attention=all: give one of both, position, channel, none"),
        ("crop=wide", "crop=wide: give a whole number above 0"),
        ("crop=512x", "crop=512x"),
        ("batch=0", "batch=0: give a whole number above 0"),
        ("batch=8,batch=16", "'batch' is given twice"),
        ("runlocal=yes", "'runlocal=yes': write runlocal"),
        ("recipe", "'recipe': write recipe=VALUE"),
        ("runlocal,batch=4", "runlocal and batch=4: runlocal chooses that itself"),
    ],
)
def test_wrong_arguments_are_named(argument, says):
    with pytest.raises(UserError) as caught:
        load("ade20k", argument)
    assert says in str(caught.value)


def test_the_recipe_in_ten_lines():
    config = load("cityscapes", "recipe=mmseg,crop=769")
    lines = recipe_of(config, num_images=2975, total_steps=80_000)
    assert [" ".join(line.split()) for line in lines] == [
        "Data cityscapes, 2975 images of train, 19 classes",
        "Network DANet on resnet101, stride 8, deep stem, auxiliary head, aligned corners, "
        "float32; 68,838,702 parameters",
        "Start random weights (config.model.pretrained_backbone names a file)",
        "Input crops of 769×769; short side 512 to 2048",
        "Augmentation mirrored, photometric distortion, no class above 75 % of a crop",
        "Optimiser SGD, momentum 0.9, weight decay 0.0005 on every parameter",
        "Learning rate 0.01, head ×1, poly 0.9 to 0.0001",
        "Length 80000 steps of 8, 215.1 epochs",
        "Loss cross-entropy, mean over all pixels; weights: sum 1, position 1, channel 1, "
        "auxiliary 0.4",
        "Evaluation val every 3333 steps, windows of 769×769, scale 1, softmax",
    ]
    config = load("synthetic_scenes", "none")
    config.model.attention = ("channel", "position")
    lines = recipe_of(config, num_images=2000, total_steps=900)
    assert "  DANet on resnet18, stride 8" in lines[1]
    config.model.attention = ()
    lines = recipe_of(config, num_images=2000, total_steps=900)
    assert " ".join(lines[8].split()) == (
        "Loss cross-entropy, mean over labelled pixels; weights: sum 1"
    )
