"""Workdirs and their checkpoints."""

import json
import shutil

from tests.runs import CHECKPOINT_EVERY, STEPS
from tests.wrong_input.case import refused


@refused(
    "holds a run of another config",
    "config.model.width: 4 in it, 8 asked for",
    "config.optimizer.momentum: 0.9 in it, 0.5 asked for",
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


@refused("does not look like a run (it has no config.json)")
def workdir_of_foreign_files(place):
    (place.folder / "thesis.tex").write_text("mine")
    return place.train(workdir=place.folder)


@refused("does not look like a run (it has no config.json)")
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


@refused("is of a run with another config", "config.model.width: 4 in it, 8 in config.json")
def checkpoint_of_another_width(place):
    run = place.copy_run()
    change_config(run, "model", width=8)
    return ["eval", f"--workdir={run}"]


@refused(
    "is of a run with another config",
    "config.model.attention: ('position', 'channel') in it, ('position',) in config.json",
)
def checkpoint_of_another_architecture(place):
    run = place.copy_run()
    change_config(run, "model", attention=["position"])
    return ["eval", f"--workdir={run}"]


@refused(
    "report/evaluations.json cannot be read: Expecting",
    "move it away: the next report then starts to compare anew.",
)
def eval_with_a_torn_file_of_evaluations(place):
    run = place.copy_run()
    file = run / "report" / "evaluations.json"
    file.write_bytes(file.read_bytes()[:-20])
    # Before the predictions, for which there is nothing left.
    shutil.rmtree(run / "checkpoints")
    return ["eval", f"--workdir={run}"]


@refused(
    "report/evaluations.json cannot be read: evaluations[0].images is missing.", "move it away"
)
def eval_with_a_foreign_file_of_evaluations(place):
    run = place.copy_run()
    (run / "report" / "evaluations.json").write_text('{"evaluations": [{"split": "val"}]}')
    return ["eval", f"--workdir={run}"]


@refused("the report cannot be written to ", "run/report: Not a directory. Make it a folder")
def eval_where_no_report_can_be_written(place):
    run = place.copy_run()
    shutil.rmtree(run / "report")
    (run / "report").write_text("mine")
    return ["eval", f"--workdir={run}"]


@refused("the run's config is fixed", "eval.batch_size")
def eval_with_another_training(place):
    return ["eval", f"--workdir={place.finished}", "--config.model.width=8"]


@refused(f"checkpoints/{STEPS - CHECKPOINT_EVERY} is damaged. Move that folder away")
def torn_score_of_an_older_checkpoint(place):
    run = place.copy_run()
    folder = run / "checkpoints" / str(STEPS - CHECKPOINT_EVERY) / "metrics"
    folder.mkdir(exist_ok=True)
    (folder / "metrics").write_text('{"score": 0.')
    return ["eval", f"--workdir={run}"]


@refused(
    f"checkpoints/{STEPS} is of a run of another config",
    "config.optimizer.momentum: 0.9 in it, 0.5 asked for",
)
def checkpoint_of_another_config(place):
    run = place.copy_run()
    change_config(run, "optimizer", momentum=0.5)
    return ["train", f"--workdir={run}"]


@refused(
    f"checkpoints/{STEPS - CHECKPOINT_EVERY} is of a run of another config",
    "config.seed: 7 in it, 0 asked for",
)
def older_checkpoint_of_another_run(place):
    run = place.copy_run()
    record = run / "checkpoints" / str(STEPS - CHECKPOINT_EVERY) / "record" / "metadata"
    content = json.loads(record.read_text())
    content["config"]["seed"] = 7
    record.write_text(json.dumps(content))
    return ["train", f"--workdir={run}"]


def tear(run, step):
    """Cuts the largest file of a checkpoint in half, as a failing disk may leave it."""
    files = [path for path in (run / "checkpoints" / str(step)).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def change_config(run, group, **values):
    config = json.loads((run / "config.json").read_text())
    config[group] |= values
    # As `train` writes it.
    (run / "config.json").write_text(json.dumps(config, indent=2) + "\n")
