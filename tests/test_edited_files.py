"""Files of a run and of a prepared data set that were edited, torn or replaced by others."""

import contextlib
import json
import os
import shutil

import pytest

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError, UserError
from danet_jax.evaluation.predictor import Predictor
from danet_jax.runs import config as configuration
from danet_jax.runs import folder as run_folder
from danet_jax.runs import history
from danet_jax.runs.checkpoints import Checkpointer
from danet_jax.tasks import dataset_pages
from danet_jax.training.monitor import Monitor
from tests.runs import CHECKPOINT_EVERY, STEPS
from tests.training.tiny import restore_state

WEIGHTS = {
    "file": "resnet.pth",
    "sha256": "00ff",
    "part": "backbone",
    "names": "torchvision's",
    "arrays": 3,
    "reinitialized": [],
    "skipped": [],
}


@pytest.fixture
def run(finished, tmp_path):
    """A run's small files; its checkpoints are links, so that nothing of them can be changed."""
    copy = tmp_path / "run"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("checkpoints", "index.html"))
    (copy / "checkpoints").symlink_to(finished / "checkpoints")
    (copy / "weights.json").write_text(json.dumps(WEIGHTS))
    return copy


@pytest.fixture
def data(workplace, tmp_path):
    return shutil.copytree(workplace.data, tmp_path / "data")


def read_run(run):
    """Everything that `eval` reads before its work."""
    run_folder.read_config(run)
    run_folder.read_classes(run)
    history.check_readable(run)


def read_data(data):
    """Everything that commands read of a data set beside its records."""
    input_pipeline.labels_of("camvid", data_dir=data)
    input_pipeline.survey_of("camvid", data_dir=data)
    input_pipeline.open_split("camvid", "val", data_dir=data)


def message(read, folder):
    with pytest.raises((UserError, DataError)) as caught:
        read(folder)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 700
    assert "delete" not in text
    return text


CONTENTS = {
    "empty": (b"", "it is empty"),
    "white": (b" \n", "nothing but white space"),
    "cut": (b'{"names": ["a', "in line 1, column"),
    "nested": (b"[" * 100_000, "nested too deeply"),
    "digits": (b'{"step": ' + b"1" * 5000 + b"}", "a number of 5000 digits"),
    "twice": (b'{"seed": 1, "seed": 2}', '"seed" occurs twice'),
    "another encoding": (b'{"name": "\xff\xfe"}', "not text in UTF-8: see byte 10"),
    "a list": (b"[1, 2]", "a list of 2; it takes an object"),
    "no number": (b"NaN", "all of it is NaN"),
}
RUN_FILES = ("config.json", "classes.json", "weights.json", "report/evaluations.json")
DATA_FILES = ("metadata.json", "survey.json", "dataset_info.json", "features.json")


@pytest.mark.parametrize("name", CONTENTS)
def test_files_that_are_no_json_of_ours(name, run, data):
    content, says = CONTENTS[name]
    assert read_run(run) is None
    for file in RUN_FILES:
        whole = (run / file).read_bytes()
        (run / file).write_bytes(content)
        text = message(read_run, run)
        assert f"{run / file} cannot be read: " in text
        assert says in text
        (run / file).write_bytes(whole)
    for file in DATA_FILES:
        path = data / "camvid" / "1.0.0" / file
        whole = path.read_bytes()
        path.write_bytes(content)
        text = message(read_data, data)
        assert f"{path} cannot be read: " in text
        assert says in text
        path.write_bytes(whole)


def replace_by_a_folder(path):
    path.mkdir()


def replace_by_a_loop(path):
    path.symlink_to(path.name)


def replace_by_a_device(path):
    path.symlink_to("/dev/zero")


def replace_by_50_gigabytes(path):
    with open(path, "wb") as file:
        file.truncate(50 << 30)


@pytest.mark.parametrize(
    ("replace", "says"),
    [
        (replace_by_a_folder, "it is a folder"),
        (os.mkfifo, "it is a named pipe"),
        (replace_by_a_device, "it is a device"),
        (replace_by_a_loop, "Too many levels of symbolic links"),
        (replace_by_50_gigabytes, "it has 53687 MB"),
    ],
)
def test_what_is_no_file_is_not_waited_for(replace, says, run, data):
    files = [(read_run, run, run / file) for file in (*RUN_FILES, "metrics.jsonl")]
    files += [(read_data, data, data / "camvid" / "1.0.0" / file) for file in DATA_FILES]
    for read, folder, path in files:
        former = path.rename(path.with_name("former"))
        replace(path)
        text = message(read, folder)
        assert str(path) in text
        assert says in text
        path.rmdir() if path.is_dir() else path.unlink()
        former.rename(path)


def changed(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def set_to(*keys, value):
    """Makes a change of one field."""

    def change(tree):
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("classes.json", set_to("names", 3, value=5), "names[3] is 5; it takes a text"),
        ("classes.json", set_to("names", value="road"), 'names is "road"; it takes a list'),
        ("classes.json", set_to("colors", 0, value=[1, 2]), "colors[0] has 2 entries; it takes 3"),
        ("classes.json", set_to("colors", 0, 2, value=256), "colors[0][2] is 256"),
        ("classes.json", lambda v: v["names"].pop(), "names has 10, colors has 11 entries"),
        ("classes.json", lambda v: [v[k].pop() for k in v], "holds 10 names, but config.model.num"),
        ("classes.json", lambda v: v.pop("names"), "names is missing"),
        ("weights.json", set_to("part", value="head"), 'part is "head"; it takes "network" or'),
        ("weights.json", set_to("arrays", value=-1), "arrays is -1; it takes a whole number"),
        ("weights.json", set_to("skipped", value=None), "skipped is null; it takes a list"),
        (
            "report/evaluations.json",
            set_to("evaluations", 0, "iou", 2, value="much"),
            'evaluations[0].iou[2] is "much"; it takes a number',
        ),
        (
            "report/evaluations.json",
            set_to("evaluations", 0, "iou", value=[0.5]),
            "evaluations[0].iou has 1 entries, but the run has 11 classes",
        ),
        (
            "report/evaluations.json",
            set_to("evaluations", 0, "settings", "scales", value=[]),
            "evaluations[0].settings.scales has 0 entries; it takes 1 or more",
        ),
        (
            "report/evaluations.json",
            set_to("evaluations", 0, "images", value=10**60),
            "evaluations[0].images is 1000",
        ),
    ],
)
def test_fields_of_a_run_that_do_not_fit(file, change, says, run):
    changed(run / file, change)
    text = message(read_run, run)
    assert str(run / file) in text
    assert says in text
    assert "copy" in text or "move it away" in text


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("metadata.json", lambda v: v.pop("raw_ids"), "raw_ids is missing"),
        ("metadata.json", set_to("colors", value=[]), "11 names but 0 colours"),
        ("metadata.json", set_to("names", 1, value="sky"), "given more than once: sky"),
        (
            "survey.json",
            set_to("splits", "val", "class_pixels", 0, value=-4),
            "splits.val.class_pixels[0] is -4",
        ),
        (
            "survey.json",
            lambda v: [v["splits"]["val"][f].pop() for f in ("class_pixels", "images_with_class")],
            "splits.val.class_pixels has 10 entries for 11 classes",
        ),
        (
            "survey.json",
            set_to("splits", "val", "sizes", value={"<script>": 4}),
            "it takes WIDTHxHEIGHT",
        ),
        (
            "survey.json",
            set_to("splits", "val", "examples", value=0),
            "splits.val.sizes has more images than 0 examples",
        ),
        (
            "dataset_info.json",
            set_to("splits", 0, "shardLengths", value=["many"]),
            'splits[0].shardLengths[0] is "many"',
        ),
        (
            "features.json",
            set_to("pythonClassName", value="antigravity.Fly"),
            "it takes a class of tensorflow_datasets",
        ),
    ],
)
def test_fields_of_a_data_set_that_do_not_fit(file, change, says, data):
    path = data / "camvid" / "1.0.0" / file
    changed(path, change)
    text = message(read_data, data)
    assert str(path) in text
    assert says in text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_what_an_editor_saved_in_another_encoding_is_read(encoding, run):
    names, colors = run_folder.read_classes(run)
    text = (run / "classes.json").read_text()
    (run / "classes.json").write_bytes(text.encode(encoding))
    assert run_folder.read_classes(run) == (names, colors)


def test_eval_fails_before_its_work(run, workplace, monkeypatch):
    from danet_jax.commands import command_line

    def work(*_, **__):
        raise AssertionError("it began to work")

    monkeypatch.setattr(Predictor, "from_workdir", work)
    monkeypatch.setattr("danet_jax.runtime.start.set_up_cache", lambda: None)
    monkeypatch.setattr("sys.unraisablehook", None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for file in RUN_FILES:
        whole = (run / file).read_bytes()
        (run / file).write_bytes(b'{"evaluations": 3, "model": 2}')
        for command in (
            "eval",
            "export --format=torch --output=new",
            "predict --input=. --output=o",
        ):
            if "evaluations" in file and not command.startswith("eval"):
                continue
            name, *more = command.split()
            # `Predictor.from_workdir` reads the classes, before the checkpoint.
            if file in ("weights.json", "classes.json") and name == "predict":
                continue
            assert command_line.run([name, f"--workdir={run}", *more]) == 2
        (run / file).write_bytes(whole)


def test_lines_of_metrics_that_are_no_records(tmp_path, capfd):
    lines = ['{"step": 1, "loss": 3.0}', "[" * 5000, '{"step": "2"}', "7", '{"loss": 1.0}']
    lines += ['{"step": 3, "loss": NaN}', '{"step": ' + "9" * 5000 + "}", "\udcff"]
    content = "\n".join([*lines, '{"step": 4, "lo']).encode(errors="surrogateescape")
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert [record["step"] for record in history.read_metrics(tmp_path)] == [1, 3]
    assert "metrics.jsonl: 6 lines" in capfd.readouterr().err
    # What a crash has cut is left out; what somebody else wrote stays.
    with Monitor(tmp_path, step=3, total_steps=9):
        pass
    kept = (tmp_path / "metrics.jsonl").read_bytes()
    assert kept == content[: content.rindex(b"\n") + 1]


# --- the config ----------------------------------------------------------------------------------


def test_a_config_without_younger_fields_is_taken_with_a_word(run, capfd):
    changed(run / "config.json", lambda v: (v.pop("mesh"), v["eval"].pop("window_batch")))
    config = run_folder.read_config(run)
    assert config.mesh.space == 1
    assert config.eval.window_batch == 0
    assert run_folder.read_config(run, training=True).eval.window_batch == 0
    said = capfd.readouterr().err
    assert said.count("is of a version without config.eval.window_batch, config.mesh") == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_to("model", "gates", value=2), "does not know config.model.gates"),
        (set_to("eval", "basesize", value=2), "Did you mean config.eval.base_size?"),
        (set_to("quantization", value={}), "does not know config.quantization"),
        (set_to("model", "width", value=None), "config.model.width is null; it takes a whole numb"),
        (set_to("model", "width", value=4.5), "config.model.width is 4.5; it takes a whole number"),
        (set_to("model", "width", value=True), "config.model.width is true"),
        (set_to("model", "align_corners", value=1), "config.model.align_corners is 1; it takes Tr"),
        (set_to("model", "attention", value="position"), "config.model.attention is"),
        (set_to("model", "attention", value=[["position"]]), "config.model.attention[0] is"),
        (set_to("eval", "scales", value=[1, "x"]), "config.eval.scales[1] is"),
        (set_to("model", value=[1]), "config.model is [1]; it is a group of fields"),
        (set_to("seed", value={}), "config.seed is {}"),
        (lambda v: v["model"].pop("num_classes"), "config.model.num_classes is missing"),
        (lambda v: v.pop("data"), "config.data is missing"),
    ],
)
def test_fields_of_a_config_that_cannot_be_taken(change, says, run):
    changed(run / "config.json", change)
    text = message(run_folder.read_config, run)
    assert str(run / "config.json") in text
    assert says in text


def test_a_field_of_training_that_is_not_known_stops_training_alone(run, capfd):
    changed(run / "config.json", set_to("optimizer", "nesterov", value=True))
    assert run_folder.read_config(run).model.width == 4
    assert "does not know it: config.optimizer.nesterov" in capfd.readouterr().err
    with pytest.raises(UserError, match=r"does not know config\.optimizer\.nesterov"):
        run_folder.choose_config(None, (), run)


def test_numbers_of_another_type_are_taken_where_they_are_the_same(run):
    def change(value):
        value["model"].update(width=4.0, multi_grid=[4.0, 8, 16])
        value["eval"]["scales"] = [1, 2]
        value["optimizer"]["momentum"] = 1

    changed(run / "config.json", change)
    config = run_folder.read_config(run)
    assert type(config.model.width) is int
    assert config.model.multi_grid == (4, 8, 16)
    assert [type(scale) for scale in config.eval.scales] == [float, float]
    assert type(config.optimizer.momentum) is float


@pytest.mark.parametrize(
    "name", ["camvid", "cityscapes:recipe=mmseg", "ade20k", "folder:classes=3"]
)
def test_each_config_comes_back_as_it_was(name, capfd):
    file, _, argument = name.partition(":")
    config = configuration.load_config(f"configs/{file}.py" + (f":{argument}" if argument else ""))
    recorded = json.loads(json.dumps(config.to_dict()))
    assert configuration.restore(recorded).to_dict() == config.to_dict()
    assert capfd.readouterr().err == ""


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(finished, tmp_path):
    """Copies of two steps' small files; the arrays are not read here."""
    folder = tmp_path / "checkpoints"
    for step in (STEPS - CHECKPOINT_EVERY, STEPS):
        source = finished / "checkpoints" / str(step)
        shutil.copytree(source, folder / str(step))
    return folder


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("record/metadata", set_to("stream", "next_batch", value="4"), "stream.next_batch is"),
        ("record/metadata", set_to("best", value=[1]), "best is a list of 1"),
        ("record/metadata", lambda v: v.pop("config"), "config is missing"),
        ("record/metadata", set_to("colour", value=1), "holds colour, which this version does not"),
        ("metrics/metrics", set_to("score", value="high"), "score is"),
        ("_CHECKPOINT_METADATA", set_to("commit_timestamp_nsecs", value={}), "commit_timestamp"),
    ],
)
def test_records_of_a_checkpoint_that_do_not_fit(file, change, says, checkpoints, finished):
    from danet_jax.runtime import parallel
    from danet_jax.training.setup import set_up

    config = run_folder.read_config(finished)
    changed(checkpoints / str(STEPS) / file, change)

    def read(folder):
        with contextlib.closing(Checkpointer(folder)) as checkpointer:
            abstract = set_up(config, parallel.create_mesh(), STEPS).abstract_state()
            restore_state(checkpointer, abstract, step=STEPS)

    text = message(read, checkpoints)
    assert str(checkpoints / str(STEPS)) in text
    assert says in text


def test_a_survey_that_is_whole_is_shown(data):
    import ml_collections

    place = ml_collections.ConfigDict({"name": "camvid", "data_dir": str(data)})
    assert dataset_pages.write_survey(place).is_file()
