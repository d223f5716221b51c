"""Commands, their arguments, config files and fields."""

from PIL import Image

from tests.compiler import xla_flags
from tests.wrong_input.case import refused


@refused("invalid choice: 'trian'", "prepare", "train", "eval", "predict")
def unknown_command(place):
    return ["trian"]


@refused("unknown arguments: --wrokdir=run")
def unknown_argument(place):
    return ["train", "--wrokdir=run", f"--workdir={place.folder / 'new'}"]


@refused("the following arguments are required: --workdir")
def no_workdir(place):
    return ["train", "--config=configs/camvid.py"]


@refused("--config.train.epochs needs a value: --config.train.epochs=VALUE")
def override_without_equals_sign(place):
    return [*place.train(), "--config.train.epochs", "40"]


@refused("the run's config is fixed", "eval.scales")
def predict_with_an_override(place):
    return [*place.predict(place.workplace.source), "--config.model.width=8"]


@refused(
    "3 files that no earlier predict wrote would be overwritten: ",
    "annotations/val_0.json, ",
    "annotations/val_1.json, ",
    "annotations/val_2_label.png. Choose another output folder.",
)
def predict_into_the_folder_of_annotations(place):
    output = place.folder / "annotations"
    output.mkdir()
    (output / "val_1.json").write_text('{"version": "5.0.1", "shapes": []}')
    (output / "val_0.json").write_text('{"class_shares": {"sky": 1.0}}')
    (output / "val_2_label.png").write_bytes(b"mine")
    return place.predict(place.workplace.source / "val", output)


@refused("huge.png: it has more than 178 million pixels", "save it smaller, or cut into parts")
def predict_with_an_enormous_image(place):
    # Of one bit each, as this one lets the file itself be small.
    Image.new("1", (13_400, 13_350)).save(place.folder / "huge.png")
    return place.predict(place.folder / "huge.png")


@refused("configs/camvd.py. Did you mean configs/camvid.py?")
def unknown_config_file(place):
    return ["train", "--config=configs/camvd.py", f"--workdir={place.folder / 'new'}"]


@refused("broken.py: NameError: name 'undefined' is not defined")
def broken_config_file(place):
    return prepare_with(place, "broken.py", "undefined()\n")


@refused(
    "nothing.py: there is no get_config in it; define get_config() that returns a config made from "
    "danet_jax.configs.common"
)
def config_file_without_get_config(place):
    return prepare_with(place, "nothing.py", "config = None\n")


@refused(
    "forgetful.py: get_config() returns None; define get_config() that returns a config made from "
    "danet_jax.configs.common"
)
def config_file_that_returns_nothing(place):
    text = "from danet_jax.configs import common\n"
    text += "def get_config():\n    config = common.get_config()\n"
    return prepare_with(place, "forgetful.py", text)


@refused("part.py: there is no config.model.width, config.train; define get_config() that returns")
def config_file_that_lacks_fields(place):
    return prepare_with(
        place,
        "part.py",
        "from danet_jax.configs import common\n"
        "def get_config():\n"
        "    config = common.get_config().unlock()\n"
        "    del config.model.width, config.train\n"
        "    return config\n",
    )


def prepare_with(place, name, text):
    (place.folder / name).write_text(text)
    return ["prepare", f"--config={place.folder / name}"]


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


@refused("config.train has no field 'seed'. Did you mean config.seed?")
def config_field_of_another_group(place):
    return place.train("--config.train.seed=1")


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


@refused("config.eval.preset is 'mutli'", "Did you mean 'multi'?")
def unknown_preset(place):
    return ["eval", f"--workdir={place.finished}", "--config.eval.preset=mutli"]


@refused(
    "config.eval.window_batch is 3; give a multiple of this process's 2 devices",
    XLA_FLAGS=xla_flags(2),
)
def window_batch_that_devices_do_not_divide(place):
    return place.train("--config.eval.window_batch=3")


@refused("config.loss.ohem_min_kept is 100000.0; give a share, 0 to 1")
def pixels_for_a_share(place):
    return place.train("--config.loss.ohem_min_kept=100000")


@refused("--config.train.epochs=3: config.train.steps is 24, and that counts")
def epochs_beside_steps(place):
    return place.train("--config.train.epochs=3")


@refused("--config.eval.crop_size=64: mode is 'whole'", "--config.eval.mode=slide")
def windows_of_whole_images(place):
    return ["eval", f"--workdir={place.finished}", "--config.eval.crop_size=64"]


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
    XLA_FLAGS=xla_flags(3),
)
def batch_that_devices_do_not_divide(place):
    return place.train()


@refused(
    "JAX_COORDINATOR_ADDRESS set, but not JAX_NUM_PROCESSES, JAX_PROCESS_ID: set all three",
    JAX_COORDINATOR_ADDRESS="localhost:1",
)
def half_of_several_processes(place):
    return place.train("--config.mesh.distributed=True")


@refused(
    "JAX_NUM_PROCESSES is '2' and JAX_PROCESS_ID '2'",
    JAX_COORDINATOR_ADDRESS="localhost:1",
    JAX_NUM_PROCESSES="2",
    JAX_PROCESS_ID="2",
)
def process_beyond_the_last(place):
    return place.train("--config.mesh.distributed=True")


@refused(
    "config.mesh.distributed is set, but this process found no others", "JAX_COORDINATOR_ADDRESS"
)
def one_of_several_processes_alone(place):
    return place.train("--config.mesh.distributed=True")


@refused("config.train.batch_size 2", "config.train.accumulation_steps 3")
def batch_that_accumulation_does_not_divide(place):
    return place.train("--config.train.accumulation_steps=3")


@refused("config.model.num_classes is 19, but camvid has 11 classes")
def other_number_of_classes(place):
    return place.train("--config.model.num_classes=19")
