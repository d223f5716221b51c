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
def test_a_signal_becomes_a_wish_and_handlers_come_back(number, capfd):
    before = handlers()
    with interruptible() as interruption:
        assert handlers() != before
        assert not interruption
        assert interruption.name is None
        send(number)
        assert interruption
        assert interruption.name == number.name
    assert handlers() == before
    assert capfd.readouterr().err == (
        f"\n{number.name}: saving after this step; Ctrl-C now stops at once\n"
    )


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


def test_one_of_several_processes_passes_ctrl_c_on_to_the_preemption_notice(monkeypatch):
    before, sent = handlers(), []
    with interruptible(alone=False) as interruption:
        monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
        assert signal.getsignal(signal.SIGTERM) == before[0]
        signal.raise_signal(signal.SIGINT)
        assert sent == [(os.getpid(), signal.SIGTERM)]
        assert not interruption
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert handlers() == before


def test_a_second_sigterm_still_waits():
    with interruptible() as interruption:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert interruption
