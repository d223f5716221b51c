import json
import resource
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from danet_jax.base.errors import UserError
from danet_jax.training.monitor import Monitor

METRICS = {"loss": 2.0, "learning_rate": 0.1}


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_records_of_steps_and_evaluations(tmp_path):
    with Monitor(tmp_path, step=0, total_steps=10) as monitor:
        monitor.write_training(2, METRICS, batch_size=4)
        monitor.write_evaluation(2, {"mean_iou": 0.25, "pixel_accuracy": 0.5})
    training, evaluation = records(tmp_path)
    assert training.pop("images_per_second") > 0
    assert training == {"step": 2, **METRICS}
    assert evaluation == {"step": 2, "mean_iou": 0.25, "pixel_accuracy": 0.5}
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_restart_drops_later_records_and_a_cut_line(tmp_path):
    kept = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}, {"step": 2, "mean_iou": 0.1}]
    later = [{"step": 3, "loss": 2.0}, {"step": 4, "loss": 1.5}]
    lines = [json.dumps(record) + "\n" for record in (*kept, *later)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 2, "los')
    with Monitor(tmp_path, step=2, total_steps=10) as monitor:
        assert records(tmp_path) == kept
        monitor.write_training(3, METRICS, batch_size=1)
    assert records(tmp_path)[:3] == kept
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 2, 3]


def test_an_evaluation_that_was_not_saved_is_written_anew(tmp_path):
    kept = [{"step": 1, "mean_iou": 0.1}, {"step": 2, "loss": 2.5}]
    lines = [json.dumps(record) + "\n" for record in (*kept, {"step": 2, "mean_iou": 0.2})]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    with Monitor(tmp_path, step=2, total_steps=10, scored=False):
        assert records(tmp_path) == kept


def events(folder):
    """Step and content of each event in the files of a folder, oldest first."""
    found = []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:
            # Length and its checksum, the event and its checksum.
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found.append((event.step, {v.tag: v.simple_value for v in event.summary.value}))
            data = data[16 + length :]
    return found


def test_tensorboard_gets_the_same(tmp_path):
    with Monitor(tmp_path, step=4, total_steps=10) as monitor:
        monitor.write_evaluation(6, {"mean_iou": 0.25, "pixel_accuracy": 0.5})
        monitor.flush()
        # The version of the format, then that later steps of older files are to be hidden.
        expected = [
            (0, {}),
            (5, {}),
            (6, {"eval/mean_iou": 0.25}),
            (6, {"eval/pixel_accuracy": 0.5}),
        ]
        assert events(tmp_path / "tensorboard") == expected


def test_a_full_disk_is_said_and_nothing_waits(tmp_path):
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    many = METRICS | {f"metric_{index}": 1.0 for index in range(100)}
    with Monitor(tmp_path, step=0, total_steps=10) as monitor:
        monitor.write_training(1, many, batch_size=4)
        written = (tmp_path / "metrics.jsonl").stat().st_size
        try:
            # Enough for the record, and not for the events.
            resource.setrlimit(resource.RLIMIT_FSIZE, (written, former[1]))
            with pytest.raises(UserError, match=f"step 1 .* to {tmp_path}: File too large"):
                monitor.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_whole_last_line_without_newline_does_not_swallow_the_next(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 3.0}')
    with Monitor(tmp_path, step=1, total_steps=10) as monitor:
        monitor.write_training(2, METRICS, batch_size=1)
    assert [record["step"] for record in records(tmp_path)] == [1, 2]


def test_an_invisible_monitor_writes_nothing(tmp_path):
    with Monitor(tmp_path, step=0, total_steps=10, visible=False) as monitor:
        monitor.advance(1)
        monitor.write_training(1, METRICS, batch_size=1)
        monitor.write_evaluation(1, {"mean_iou": 0.25, "pixel_accuracy": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_pauses_do_not_slow_the_measured_speed(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("danet_jax.training.monitor.time.perf_counter", lambda: clock[0])
    with Monitor(tmp_path, step=0, total_steps=10) as monitor:
        clock[0] = 1.0
        with monitor.paused():
            clock[0] = 51.0
        clock[0] = 52.0
        monitor.write_training(5, METRICS, batch_size=4)
    # 20 images in two seconds.
    assert records(tmp_path)[0]["images_per_second"] == 10.0
