import os
import signal

import pytest

from danet_jax.training.interruption import interruptible

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_becomes_a_wish_and_handlers_come_back(number):
    before = handlers()
    with interruptible() as interruption:
        assert handlers() != before
        assert not interruption
        assert interruption.name is None
        send(number)
        assert interruption
        assert interruption.name == number.name
    assert handlers() == before


@pytest.mark.parametrize("first", SIGNALS)
def test_ctrl_c_after_a_signal_ends_at_once(first):
    before = handlers()

    def interrupt_twice():
        with interruptible() as interruption:
            send(first)
            assert interruption.name == first.name
            send(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert handlers() == before


def test_one_of_several_processes_leaves_signals_to_the_preemption_notice():
    before = handlers()
    with interruptible(alone=False) as interruption:
        assert handlers() == before
        assert not interruption


def test_a_second_sigterm_still_waits():
    with interruptible() as interruption:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert interruption
