"""What a person gets for wrong input: one message, status 2, and everything as it was."""

import contextlib
import gzip
import json
import os
import re
import resource
import shutil
import signal
from concurrent import futures
from pathlib import Path

import jax
import numpy as np
import pytest

from danet_jax.runs import folder as run_folder
from danet_jax.runs.checkpoints import Checkpointer
from danet_jax.runtime import parallel
from danet_jax.training.setup import set_up
from tests.runs import CHECKPOINT_EVERY, IMAGES, STEPS, digests, finish, succeed
from tests.training.tiny import restore_state
from tests.wrong_input import CASES, Place
from tests.wrong_input.workdirs import tear


@pytest.fixture(scope="module")
def outcomes(request, workplace, finished, tmp_path_factory):
    """Name → (outcome, files before, files after); started ahead, as each is one core's work."""

    def run(name):
        case = CASES[name]
        place = Place(tmp_path_factory.mktemp(name), workplace, finished)
        arguments = case.arrange(place)
        before = digests(place.folder)
        outcome = finish(workplace.fork(*arguments, environment=case.environment))
        return outcome, before, digests(place.folder)

    chosen = (item.callspec.params["name"] for item in request.session.items if asks(item))
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(run, name) for name in chosen}


def asks(item):
    return "outcomes" in getattr(item, "fixturenames", ())


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_is_refused(name, outcomes):
    outcome, before, after = outcomes[name].result()
    message = check_message(outcome)
    for fragment in CASES[name].says:
        assert fragment in message
    assert after == before


def check_message(outcome):
    """Asserts status 2 and one message without a traceback; returns it in one line."""
    assert outcome.status == 2, outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.count("error: ") == 1, outcome.stderr
    return " ".join(outcome.stderr.partition("error: ")[2].split())


def test_unreadable_images_are_listed_and_the_others_done(workplace, finished, tmp_path):
    images, output = tmp_path / "images", tmp_path / "output"
    shutil.copytree(workplace.source / "val", images)
    (images / "empty.png").write_bytes(b"")
    (images / "text.png").write_text("not an image\n")
    whole = (images / "val_0.png").read_bytes()
    (images / "truncated.png").write_bytes(whole[: len(whole) // 2])
    outcome = workplace.run(
        "predict", f"--workdir={finished}", f"--input={images}", f"--output={output}"
    )
    message = check_message(outcome)
    assert message.startswith("3 of 7 images were not labelled, see above; the others are in ")
    for name in ("empty.png: empty file", "text.png: not a readable", "truncated.png: not"):
        assert outcome.stderr.count(name) == 1
    done = {path.name for path in output.iterdir()}
    assert done == {
        f"val_{i}{end}" for i in range(4) for end in ("_label.png", "_overlay.png", ".json")
    }


# --- the command line itself ---------------------------------------------------------------------


def test_without_arguments_it_says_what_there_is(workplace):
    outcome = finish(workplace.start())
    assert outcome.status == 2
    for word in ("prepare", "train", "eval", "predict", "--config.train.epochs=40"):
        assert word in outcome.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), ("prepare", "train", "eval", "predict", "--config.FIELD=VALUE")),
        (("train",), ("--config", "--workdir", "--fresh", "--debug")),
    ],
)
def test_help(workplace, command, words):
    outcome = succeed(workplace.run(*command, "--help"))
    assert outcome.stderr == ""
    for word in words:
        assert word in outcome.stdout


def test_debug_shows_the_traceback(workplace):
    outcome = workplace.run("prepare", "--config=configs/nothing.py", "--debug")
    assert outcome.status == 2
    assert "Traceback (most recent call last)" in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("error: --config: there is no file")


# --- preparations that are interrupted -----------------------------------------------------------


def prepare(workplace, data_dir, config="configs/camvid.py"):
    place = f"--config.data.data_dir={data_dir}"
    return ["prepare", f"--config={config}", place, f"--source={workplace.source}"]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux limits another process's files")
def test_a_full_disk_stops_a_preparation_that_can_be_repeated(workplace, tmp_path):
    data_dir = tmp_path / "data"
    process = workplace.fork(*prepare(workplace, data_dir))
    # Less than the records of the training images.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (40_000, 40_000))
    message = check_message(finish(process))
    records = rf"{data_dir}/camvid/incomplete\S+/camvid-train.array_record\S+"
    assert re.match(rf"data set 'camvid' .* in {data_dir}: {records}: File too large;", message)
    assert "and repeat the command" in message
    assert not data_dir.exists()
    outcome = succeed(workplace.run(*prepare(workplace, data_dir)))
    assert "8 train, 4 val examples" in outcome.stdout


# A config is Python: this one sends the signal when the label after so many is written.
SIGNALLED = """
import itertools, os
from danet_jax.configs.camvid import get_config
from danet_jax.input_pipeline.images import codec

encode, counter = codec.encode_label, itertools.count()

def encode_label(label):
    if next(counter) == {after}:
        os.kill(os.getpid(), {number})
    return encode(label)

codec.encode_label = encode_label
"""


def test_signals_stop_a_preparation_that_can_be_repeated(workplace, tmp_path):
    data_dir, config = tmp_path / "data", tmp_path / "signalled.py"
    kept = {f"camvid/.partial-1.0.0/train-00000.{end}" for end in ("array_record", "json")}
    # Both come while val is written: the first run has kept train, the second one takes it over.
    for number, after in ((signal.SIGTERM, IMAGES["train"]), (signal.SIGINT, 0)):
        config.write_text(SIGNALLED.format(number=int(number), after=after))
        outcome = workplace.run(*prepare(workplace, data_dir, config))
        assert outcome.status == 128 + number, outcome.stderr
        assert outcome.stderr == f"{number.name}: stopped; repeat the command to go on\n"
        found = {path for path, digest in digests(data_dir).items() if digest != "folder"}
        assert found == kept
    outcome = succeed(workplace.run(*prepare(workplace, data_dir)))
    assert "8 train, 4 val examples" in outcome.stdout
    assert not list(data_dir.glob("camvid/.*"))


# --- runs that go wrong on their way -------------------------------------------------------------


def copy_unfinished(finished, folder):
    """A copy of the finished run, as it was before its last steps."""
    run = shutil.copytree(finished, folder / "run")
    shutil.rmtree(run / "checkpoints" / str(STEPS))
    return run


def test_fresh_moves_the_old_run_aside(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    old = digests(run)
    outcome = workplace.run(
        "train",
        f"--workdir={run}",
        *workplace.config("--config.optimizer.momentum=0.5"),
        "--fresh",
        "--profile",
    )
    check_profile(outcome, run, rounds=STEPS, kinds=("input wait", "step", "evaluation"))
    said = re.search(r"the old run is now in (\S+)", " ".join(succeed(outcome).stderr.split()))
    place = Path(said.group(1))
    assert place.parent == tmp_path
    moved = digests(place)
    assert {path: moved[path] for path in old} == old
    assert moved.keys() - old.keys() <= {".lock"}
    assert (run / "checkpoints" / str(STEPS)).is_dir()
    assert json.loads((run / "config.json").read_text())["optimizer"]["momentum"] == 0.5


def check_profile(outcome, run, *, rounds, kinds):
    """Asserts that it says where the time went, and that the trace holds the same names."""
    said = outcome.stderr
    assert f"Where the time of {rounds} rounds went, " in said
    for kind in kinds:
        assert re.search(rf"^  {kind} +\d+\.\d\d s +\d+\.\d %$", said, re.M)
    (trace,) = (run / "profile").rglob("perfetto_trace.json.gz")
    assert f"Trace: {trace}; open it in https://ui.perfetto.dev" in said
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = {event.get("name") for event in events}
    assert kinds[0] in names
    assert len(names) > 20


def test_eval_says_where_the_time_goes(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    outcome = succeed(workplace.run("eval", f"--workdir={run}", "--profile"))
    check_profile(outcome, run, rounds=4, kinds=("prediction", "input wait"))


def test_scores_are_shown_though_the_report_cannot_be_written(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    process = workplace.fork("eval", f"--workdir={run}")
    # Files may grow to this size: too little for a page with its plots.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (40_000, 40_000))
    outcome = finish(process)
    assert re.search(r"report/\S+ was not written: File too large", check_message(outcome))
    assert re.search(r"^mean IoU 0\.\d{4} on 4 images$", outcome.stdout, re.MULTILINE)
    assert re.search(r"pixel accuracy .* 0\.\d{4}", outcome.stderr)


def test_a_folder_in_place_of_the_report_is_found_before_the_work(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    page = run / "report" / "index.html"
    page.unlink()
    page.mkdir()
    outcome = workplace.run("eval", f"--workdir={run}")
    assert "report/index.html is not a page that this program wrote" in check_message(outcome)
    assert outcome.stdout == ""
    assert page.is_dir()


def test_a_damaged_checkpoint_is_passed_over_as_the_message_says(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    tear(run, STEPS)
    damaged = run / "checkpoints" / str(STEPS)
    message = check_message(workplace.run("train", f"--workdir={run}"))
    assert f"{damaged} is damaged. Move that folder away" in message
    damaged.rename(tmp_path / "damaged")
    outcome = succeed(workplace.run("train", f"--workdir={run}"))
    assert f"goes on from step {STEPS - CHECKPOINT_EVERY}" in outcome.stderr
    assert (run / "metrics.jsonl").read_text().count('"mean_iou"') == 3


@pytest.mark.end_to_end
def test_a_loss_that_is_not_finite_stops_the_run(workplace, tmp_path):
    run = tmp_path / "run"
    # The rate of a step is never 0, so the second step has the first one's enormous weights.
    changes = (
        "--config.optimizer.learning_rate=1e30",
        "--config.train.checkpoint_every=1",
        "--config.model.attention=",
    )
    outcome = workplace.run("train", f"--workdir={run}", *workplace.config(*changes))
    message = check_message(outcome)
    assert re.search(r"not finite at step 1: loss \S+, gradient norm \S+ Step 1 is saved", message)
    assert "a lower config.optimizer.learning_rate" in message
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["1"]
    with contextlib.closing(Checkpointer(run / "checkpoints")) as checkpointer:
        setup = set_up(run_folder.read_config(run), parallel.create_mesh(), STEPS)
        abstract = setup.abstract_state()
        state, _ = restore_state(checkpointer, abstract, step=1)
    assert state.step == 1
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(state.params))


@pytest.mark.end_to_end
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux limits another process's files")
def test_a_full_disk_stops_the_run_and_leaves_the_older_checkpoint(workplace, finished, tmp_path):
    run = copy_unfinished(finished, tmp_path)
    before = digests(run / "checkpoints")

    process = workplace.fork("train", f"--workdir={run}")
    # Files may grow to this size: enough for everything but the arrays of a checkpoint.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (40_000, 40_000))
    message = check_message(finish(process))
    assert re.search(r"checkpoint .*could not be written to .*File too large", message)
    assert {path: d for path, d in digests(run / "checkpoints").items() if path in before} == before
    succeed(workplace.run("train", f"--workdir={run}"))
    assert (run / "checkpoints" / str(STEPS)).is_dir()
