"""Commands, their arguments, config files and fields."""

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
    return prepare_with(place, "broken.py", "undefined()\n")


@refused(
    "nothing.py: there is no get_config in it; define get_config() that returns a config made from "
    "configs/common.py"
)
def config_file_without_get_config(place):
    return prepare_with(place, "nothing.py", "config = None\n")


@refused(
    "forgetful.py: get_config() returns None; define get_config() that returns a config made from "
    "configs/common.py"
)
def config_file_that_returns_nothing(place):
    text = "from configs import common\ndef get_config():\n    config = common.get_config()\n"
    return prepare_with(place, "forgetful.py", text)


@refused("part.py: there is no config.model.width, config.train; define get_config() that returns")
def config_file_that_lacks_fields(place):
    return prepare_with(
        place,
        "part.py",
        "from configs import common\n"
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
