"""`predict` is killed: what has a final name is whole, and the next one finishes."""

import random
import re
import signal
import time

import numpy as np
from PIL import Image

from danet_jax.visualization import marks
from tests.runs import finish, succeed

IMAGES, KILLS = 60, 5


def test_what_a_killed_predict_leaves_is_whole_and_is_finished(workplace, finished, tmp_path):
    source, output, expected = (tmp_path / name for name in ("images", "killed", "whole"))
    source.mkdir()
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / f"{index:02}.png")
    command = ["predict", f"--workdir={finished}", f"--input={source}"]
    succeed(workplace.run(*command, f"--output={expected}"))
    names = sorted(path.name for path in expected.iterdir())
    assert len(names) == 3 * IMAGES

    # A person's own files lie there, too.
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    (output / f".tmp-danet-{'a' * 32}").write_text("mine")
    moments = random.Random(0)
    stopped = []
    for kill in range(KILLS):
        process = workplace.fork(*command, f"--output={output}")
        target = 3 + (3 * IMAGES - 20) * kill // KILLS
        deadline = time.monotonic() + 60
        before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
        # Each writes all files anew, in their order.
        while time.monotonic() < deadline:
            written = sum(
                before.get(path.name) != path.stat().st_mtime_ns for path in output.glob("[0-9]*")
            )
            if written >= target:
                break
        time.sleep(moments.uniform(0, 0.01))
        process.kill()
        assert finish(process).status == -signal.SIGKILL
        found = sorted(output.glob("[0-9]*"))
        stopped.append(len(found))
        assert all(marks.is_ours(path) for path in found)
        assert {path.name for path in found} <= set(names)

    assert 0 < stopped[0] < 3 * IMAGES
    succeed(workplace.run(*command, f"--output={output}"))
    left = sorted(path.name for path in output.iterdir() if path.name not in names)
    assert left == [f".tmp-danet-{'a' * 32}", "mine.txt"]
    for name in names:
        one, other = ((folder / name).read_bytes() for folder in (output, expected))
        if name.endswith(".json"):
            # Seconds differ, and the checksum with them.
            one, other = (re.sub(rb'"(seconds|checksum)": \S+', b"", text) for text in (one, other))
        assert one == other
