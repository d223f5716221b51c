"""Commands on hostile input: an answer or a message, in time, in bounds, in their own place.

`make test-fuzz` tries 2000 cases, `make test` some. A case is its name: `pytest tests/fuzz
--fuzz-cases=2000 -k "images-17"` repeats one.
"""

import os
import re
import stat
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.case import Place
from tests.fuzz.images import images
from tests.fuzz.labels import labels
from tests.fuzz.own_files import own_files
from tests.fuzz.settings import settings
from tests.fuzz.weights import weights
from tests.launcher import ROOT
from tests.runs import digests, finish

FAMILIES = {family.__name__: family for family in (images, labels, own_files, weights, settings)}
SECONDS = 90
LARGEST_PEAK = 3 * 2**30
# A message of ours, or of argparse.
ERROR = re.compile(r"^(main\.py( \S+)?: )?error: ", re.MULTILINE)
# What no command prints: control characters that move a terminal's cursor or colour it.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x9b]")


def pytest_generate_tests(metafunc):
    if "family" in metafunc.fixturenames:
        count = metafunc.config.getoption("--fuzz-cases")
        names = list(FAMILIES)
        cases = [(names[index % len(names)], index // len(names)) for index in range(count)]
        metafunc.parametrize(("family", "seed"), cases, ids=[f"{n}-{s}" for n, s in cases])


def test_hostile_input_gets_an_answer_or_a_message(family, seed, workplace, finished, tmp_path):
    place = Place(tmp_path, workplace, finished)
    case = FAMILIES[family](place, np.random.default_rng([zlib.crc32(family.encode()), seed]))
    before = contents(place, case)
    process = workplace.fork(*case.arguments)
    try:
        outcome = finish(process, seconds=SECONDS)
    except TimeoutError:
        pytest.fail(f"it did not end in {SECONDS} seconds: {case.arguments}")
    said = outcome.stdout + outcome.stderr
    told = f"{case.arguments}\nstatus {outcome.status}\n{said[-5000:]}"
    assert "Traceback" not in said, told
    assert "Fatal Python error" not in said, told
    assert outcome.status in (0, 2), told
    assert (outcome.status == 2) == bool(ERROR.search(outcome.stderr)), told
    assert not CONTROL.search(said), repr(told)
    assert process.peak < LARGEST_PEAK, f"{process.peak / 2**30:.1f} GiB: {told}"
    assert contents(place, case) == before, told
    assert not list(place.output.parent.parent.glob("*outside*")), told
    assert not Path("/tmp/outside").exists(), told
    if case.check:
        case.check(outcome.status)


def contents(place, case):
    """Everything around that the command has no business with: below the case's folder, and the
    names beside the program."""
    own = (place.output, *case.writable)
    files = {
        name: value
        for name, value in digests(place.folder).items()
        if not any((place.folder / name).is_relative_to(folder) for folder in own)
    }
    kinds = {name: stat.S_IFMT(os.lstat(place.folder / name).st_mode) for name in files}
    # Other tests may leave caches beside the program meanwhile; the hostile names say "outside".
    return files, kinds, sorted(name for name in os.listdir(ROOT) if "outside" in name)
