"""What is printed for a person stays as it is, and counts right."""

import pytest

from danet_jax.commands.command_line import cache_folder
from danet_jax.terminal import say
from danet_jax.wording import counted, listed


def test_a_line_is_printed_as_it_is(capfd):
    line = "the old run is in runs/a:100:b [lr=0.1] [/b] " + 30 * "long/"
    say(line)
    assert capfd.readouterr().err == f"{line}\n"


def test_numbers_and_lists():
    assert counted(1, "class", "classes") == "1 class"
    assert counted(0, "class", "classes") == "0 classes"
    assert counted(2, "image") == "2 images"
    assert listed("abcde") == "a, b, c, d, e"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"


@pytest.mark.parametrize(
    ("variable", "folder"),
    [("/fast", "/fast/danet_jax"), ("", "/me/.cache/danet_jax"), ("cache", "/me/.cache/danet_jax")],
)
def test_the_cache_is_where_the_account_wants_it(monkeypatch, variable, folder):
    monkeypatch.setenv("HOME", "/me")
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert cache_folder() == folder
