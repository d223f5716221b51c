import json

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
