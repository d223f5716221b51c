"""Wrong input to the command line, and what the message about it has to say."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from tests.runs import CHECKPOINT_EVERY, STEPS, Workplace

CASES: dict[str, "Case"] = {}


@dataclasses.dataclass(frozen=True)
class Place:
    """A case's own folder; `workplace` and `finished` are shared, so not to be changed."""

    folder: Path
    workplace: Workplace
    finished: Path

    def copy_run(self) -> Path:
        return shutil.copytree(self.finished, self.folder / "run")

    def copy_source(self) -> Path:
        return shutil.copytree(self.workplace.source, self.folder / "CamVid")

    def train(self, *overrides: str, workdir: Path | None = None) -> list:
        workdir = workdir or self.folder / "new"
        return ["train", f"--workdir={workdir}", *self.workplace.config(*overrides)]

    def prepare(self, source: Path) -> list:
        data = f"--config.data.data_dir={self.folder / 'data'}"
        return ["prepare", "--config=configs/camvid.py", data, f"--source={source}"]

    def predict(self, image: Path, output: Path | None = None) -> list:
        output = output or self.folder / "output"
        return ["predict", f"--workdir={self.finished}", f"--input={image}", f"--output={output}"]


@dataclasses.dataclass(frozen=True)
class Case:
    """Wrong input, made by `arrange`, which returns the arguments; the message holds `says`."""

    arrange: Callable[[Place], list]
    says: tuple[str, ...]
    environment: Mapping[str, str]


def refused(*says: str, **environment: str):
    """Makes a function that returns arguments a case of CASES."""

    def register(arrange):
        CASES[arrange.__name__] = Case(arrange, says, environment)
        return arrange

    return register


# --- arguments and config ------------------------------------------------------------------------


@refused("invalid choice: 'trian'", "prepare", "train", "eval", "predict")
def unknown_command(place):
    return ["trian"]


@refused("unknown arguments: --wrokdir=run")
def unknown_argument(place):
    return ["train", "--wrokdir=run", f"--workdir={place.folder / 'new'}"]


@refused("the following arguments are required: --workdir")
def no_workdir(place):
    return ["train", "--config=configs/camvid.py"]


@refused("--config.train.epochs needs its value after a sign: --config.train.epochs=VALUE")
def override_without_equals_sign(place):
    return [*place.train(), "--config.train.epochs", "40"]


@refused("the run's config is fixed", "eval.scales")
def predict_with_an_override(place):
    return [*place.predict(place.workplace.source), "--config.model.width=8"]


@refused("there is no file configs/camvd.py. Did you mean configs/camvid.py?")
def unknown_config_file(place):
    return ["train", "--config=configs/camvd.py", f"--workdir={place.folder / 'new'}"]


@refused("broken.py: NameError: name 'undefined' is not defined")
def broken_config_file(place):
    (place.folder / "broken.py").write_text("undefined()\n")
    return ["prepare", f"--config={place.folder / 'broken.py'}"]


@refused("is not a config", "FILE.py")
def config_file_that_is_none(place):
    return ["prepare", "--config=pyproject.toml"]


@refused(
    "--config configs/camvid.py:tiny", "argument 'tiny' is not known. There are recipe,", "runlocal"
)
def unknown_config_argument(place):
    return ["prepare", "--config=configs/camvid.py:tiny"]


@refused("config.train has no field 'bach_size'. Did you mean config.train.batch_size?")
def unknown_config_field(place):
    return place.train("--config.train.bach_size=2")


@refused("config has no field 'trian'. Did you mean config.train?")
def unknown_config_group(place):
    return place.train("--config.trian.steps=2")


@refused("--config.train.steps=many: it takes a whole number")
def word_for_a_number(place):
    return place.train("--config.train.steps=many")


@refused("--config.data.crop_size=wide,high: it takes a whole number")
def words_for_numbers(place):
    return place.train("--config.data.crop_size=wide,high")


@refused("config.data.crop_size is (32,)", "(height, width)")
def one_number_for_two(place):
    return place.train("--config.data.crop_size=32")


@refused("config.loss.class_weights is ('a', 'b'); give numbers")
def words_for_optional_numbers(place):
    return place.train("--config.loss.class_weights=a,b")


@refused("--config.model=resnet18: it is a group of fields", "--config.model.backbone")
def value_for_a_group(place):
    return place.train("--config.model=resnet18")


@refused("config.model.backbone is 'resnet51'", "Did you mean 'resnet50'?")
def unknown_model_value(place):
    return place.train("--config.model.backbone=resnet51")


@refused("config.loss.name is 'dise'", "dice")
def unknown_loss(place):
    return place.train("--config.loss.name=dise")


@refused("config.eval.merge is 'softmin'", "original")
def unknown_merge(place):
    return place.train("--config.eval.merge=softmin")


@refused("config.train.log_every is 0; give 1 or more")
def never_log(place):
    return place.train("--config.train.log_every=0")


@refused("seed is -1")
def negative_seed(place):
    return place.train("--config.seed=-1")


@refused(
    "A batch of 2",
    "does not divide over 3 devices: choose a multiple of 3",
    XLA_FLAGS="--xla_force_host_platform_device_count=3",
)
def batch_that_devices_do_not_divide(place):
    return place.train()


@refused("config.train.batch_size 2", "config.train.accumulation_steps 3")
def batch_that_accumulation_does_not_divide(place):
    return place.train("--config.train.accumulation_steps=3")


@refused("config.model.num_classes is 19, but camvid has 11 classes")
def other_number_of_classes(place):
    return place.train("--config.model.num_classes=19")


# --- data sets -----------------------------------------------------------------------------------


@refused("data set 'camvid' is not prepared in", "python main.py prepare")
def data_set_not_prepared(place):
    return place.train(f"--config.data.data_dir={place.folder / 'nothing'}")


@refused("data set 'camvid' is not prepared in", "python main.py prepare")
def inspect_what_is_not_prepared(place):
    data = f"--config.data.data_dir={place.folder / 'nothing'}"
    return ["inspect", "--config=configs/camvid.py:runlocal", data]


@refused("was trained with class 3 'pavement', which is 'road' in the data set now")
def evaluate_with_classes_in_another_order(place):
    run = place.copy_run()
    file = run / "classes.json"
    classes = json.loads(file.read_text())
    classes["names"][3:5] = ["pavement", "road"]
    file.write_text(json.dumps(classes))
    return ["eval", f"--workdir={run}"]


@refused("--examples is 0; give 1 or more")
def inspect_nothing(place):
    return ["inspect", *place.workplace.config(), "--examples=0"]


@refused("data set 'pascal_context/58': name its variant, one of pascal_context/59_alphabetical")
def unknown_variant(place):
    return place.train("--config.data.name=pascal_context/58")


@refused("configs/ade20k.py:recipe=paddle: recipe=paddle: give one of original, mmseg")
def unknown_recipe(place):
    return ["train", "--config=configs/ade20k.py:recipe=paddle", f"--workdir={place.folder / 'a'}"]


@refused("unknown data set 'camvit'", "did you mean 'camvid'?")
def unknown_data_set(place):
    return place.train("--config.data.name=camvit")


@refused("data set 'camvid' needs a source", "train.txt")
def prepare_without_source(place):
    return place.prepare(place.folder)[:-1]


@refused("source", "is not a folder")
def prepare_from_no_folder(place):
    return place.prepare(place.folder / "nothing")


@refused("train.txt: missing", "it is not prepared")
def prepare_from_another_folder(place):
    return place.prepare(place.workplace.source / "train")


@refused("is made without files", "leave out the source")
def prepare_with_a_needless_source(place):
    data = f"--config.data.data_dir={place.folder / 'data'}"
    source = f"--source={place.workplace.source}"
    return ["prepare", "--config=configs/synthetic_scenes.py", data, source]


@refused("3 problems", "train_1.png: missing", "val_2.png: missing", "val_3.png: empty file")
def source_with_missing_files(place):
    source = place.copy_source()
    (source / "train" / "train_1.png").unlink()
    (source / "valannot" / "val_2.png").unlink()
    (source / "val" / "val_3.png").write_bytes(b"")
    return place.prepare(source)


@refused("train_0.png: mode RGB", "train_1.png: 32x24, but its image is 64x48", "label ids 40")
def source_with_faulty_labels(place):
    source = place.copy_source()
    annotations = source / "trainannot"
    Image.new("RGB", (64, 48)).save(annotations / "train_0.png")
    Image.new("L", (32, 24)).save(annotations / "train_1.png")
    for file in (annotations / "train_2.png", source / "valannot" / "val_0.png"):
        Image.new("L", (64, 48), 40).save(file)
    return place.prepare(source)


@refused("val.txt: lists no examples")
def source_with_an_empty_split(place):
    source = place.copy_source()
    (source / "val.txt").write_text("\n")
    return place.prepare(source)


@refused("data set 'camvid' has no split 'test'; it has train, val")
def unknown_split(place):
    return ["eval", f"--workdir={place.finished}", "--split=test"]


# --- workdirs ------------------------------------------------------------------------------------


@refused(
    "holds a run of another config",
    "config.model.width: 4 in the workdir, 8 asked for",
    "config.optimizer.momentum: 0.9 in the workdir, 0.5 asked for",
    "--fresh",
)
def workdir_of_another_config(place):
    changes = ("--config.model.width=8", "--config.optimizer.momentum=.5")
    return place.train(*changes, workdir=place.copy_run())


@refused("the run's config is fixed", "data.num_workers")
def continuing_with_a_change(place):
    return ["train", f"--workdir={place.copy_run()}", "--config.optimizer.learning_rate=.1"]


@refused("is a file; name a folder")
def workdir_that_is_a_file(place):
    (place.folder / "new").write_text("mine")
    return place.train()


@refused("file/new", "Not a directory")
def workdir_below_a_file(place):
    (place.folder / "file").write_text("mine")
    return place.train(workdir=place.folder / "file" / "new")


@refused("holds files that are not of a run (no config.json)")
def workdir_of_foreign_files(place):
    (place.folder / "thesis.tex").write_text("mine")
    return place.train(workdir=place.folder)


@refused("holds files that are not of a run (no config.json)")
def fresh_on_foreign_files(place):
    (place.folder / "thesis.tex").write_text("mine")
    return [*place.train(workdir=place.folder), "--fresh"]


@refused("holds no run to continue: give --config")
def nothing_to_continue(place):
    return ["train", f"--workdir={place.folder}"]


@refused("config.json cannot be read")
def torn_config(place):
    run = place.copy_run()
    (run / "config.json").write_text('{"seed": 0')
    return ["eval", f"--workdir={run}"]


# --- checkpoints ---------------------------------------------------------------------------------


@refused("is not the workdir of a run: it has no config.json")
def eval_of_no_run(place):
    return ["eval", f"--workdir={place.folder}"]


@refused("is not the workdir of a run: it has no config.json")
def predict_with_no_run(place):
    arguments = place.predict(place.workplace.source)
    return ["predict", f"--workdir={place.folder}", *arguments[2:]]


@refused("holds no checkpoint yet: train first")
def eval_without_checkpoint(place):
    run = place.copy_run()
    shutil.rmtree(run / "checkpoints")
    return ["eval", f"--workdir={run}"]


@refused("there is no checkpoint of step 5", f"{STEPS - CHECKPOINT_EVERY}, {STEPS}")
def eval_of_a_step_that_is_not_there(place):
    return ["eval", f"--workdir={place.copy_run()}", "--step=5"]


@refused("there is no checkpoint of step -1", f"{STEPS - CHECKPOINT_EVERY}, {STEPS}")
def predict_with_a_step_that_is_not_there(place):
    return [*place.predict(place.workplace.source), "--step=-1"]


@refused("There is no submission format for camvid; known are cityscapes, ade20k, pascal_voc")
def submission_without_a_server(place):
    return ["eval", f"--workdir={place.finished}", f"--submission={place.folder / 'new'}"]


@refused(f"checkpoints/{STEPS} is damaged. Move that folder away")
def torn_checkpoint(place):
    run = place.copy_run()
    tear(run, STEPS)
    return ["train", f"--workdir={run}"]


@refused("is of another model", "params.backbone.layer1_0.bn1.bias is (4,) in it, (8,) in this run")
def checkpoint_of_another_width(place):
    run = place.copy_run()
    change_config(run, "model", width=8)
    return ["eval", f"--workdir={run}"]


@refused(
    "is of another model",
    "params.head.channel_classifier.conv.kernel is (1, 1, 8, 11) in it, absent in this run",
)
def checkpoint_of_another_architecture(place):
    run = place.copy_run()
    change_config(run, "model", attention=["position"])
    return ["eval", f"--workdir={run}"]


@refused("the run's config is fixed", "eval.batch_size")
def eval_with_another_training(place):
    return ["eval", f"--workdir={place.finished}", "--config.model.width=8"]


def tear(run, step):
    """Cuts the largest file of a checkpoint in half, as a failing disk may leave it."""
    files = [path for path in (run / "checkpoints" / str(step)).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def change_config(run, group, **values):
    config = json.loads((run / "config.json").read_text())
    config[group] |= values
    (run / "config.json").write_text(json.dumps(config))


# --- images to predict ---------------------------------------------------------------------------


@refused("nothing.png: no such file or folder")
def input_that_is_missing(place):
    return place.predict(place.folder / "nothing.png")


@refused("no image in this folder", "png")
def input_without_images(place):
    return place.predict(place.folder)


@refused("is the folder of the images")
def output_that_is_the_input(place):
    images = shutil.copytree(place.workplace.source / "val", place.folder / "images")
    return place.predict(images, images)


@refused("--output ", "is a file; name a folder")
def output_that_is_a_file(place):
    (place.folder / "file").write_text("mine")
    return place.predict(place.workplace.source / "val" / "val_0.png", place.folder / "file")
