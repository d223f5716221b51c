"""`train` that a signal stops says so in its status, whenever it comes."""

import signal

import pytest

from tests.runs import STEPS, stopped
from tests.test_command_line import copy_unfinished

# A config is Python: this one sends the signal at the chosen moment of the run.
SIGNALLED = """
import os
from danet_jax.configs import camvid
from danet_jax.evaluation.run import SplitEvaluation
from danet_jax.tasks import train as task

def signalled(function):
    def call(*arguments, **options):
        os.kill(os.getpid(), {number})
        return function(*arguments, **options)
    return call

get_config = camvid.get_config
{where} = signalled({where})
"""
MOMENTS = {
    "get_config": (signal.SIGTERM, "SIGTERM: stopped; all steps that were done are saved"),
    "task.open_split": (signal.SIGINT, "SIGINT: stopped; all steps that were done are saved"),
    "SplitEvaluation.score": (signal.SIGTERM, f"SIGTERM: saved step {STEPS} of {STEPS} in "),
    "task.report": (signal.SIGINT, "SIGINT: stopped; all steps that were done are saved"),
}


@pytest.mark.end_to_end
@pytest.mark.parametrize("where", MOMENTS)
def test_a_stopped_train_has_the_status_of_the_signal(where, workplace, finished, tmp_path):
    number, says = MOMENTS[where]
    run, config = copy_unfinished(finished, tmp_path), tmp_path / "signalled.py"
    config.write_text(SIGNALLED.format(number=int(number), where=where))
    arguments = [f"--config={config}:runlocal", *workplace.config()[1:]]
    outcome = workplace.run("train", f"--workdir={run}", *arguments)
    assert says in " ".join(stopped(outcome, number).stderr.split())
    assert outcome.stdout == ""
    at_end = where in ("SplitEvaluation.score", "task.report")
    assert (run / "checkpoints" / str(STEPS)).is_dir() == at_end
