"""What is printed for a person stays as it is, and counts right."""

import ast
import re
from pathlib import Path

import pytest

from danet_jax.base.wording import counted, listed
from danet_jax.console.terminal import say
from danet_jax.runtime.cache import cache_folder

ROOT = Path(__file__).resolve().parent.parent


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


def texts():
    """(file, line, text) of each text in the code that is no docstring."""
    for part in ("danet_jax", "input_pipeline", "configs"):
        for file in sorted((ROOT / part).rglob("*.py")):
            tree = ast.parse(file.read_text())
            plain = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
                if is_text and id(node) not in plain:
                    yield file.relative_to(ROOT), node.lineno, node.value


def test_nobody_is_advised_to_delete():
    """What a person has made is moved away or left where it is."""
    found = list(texts())
    assert len(found) > 2000
    wrong = re.compile(r"\b(delet(e|ing)|erase|rm -|rmdir)\b|\bremove\b(?! the line| it, or)", re.I)
    assert [text for text in found if wrong.search(text[2])] == []
    assert "delete `" not in (ROOT / "README.md").read_text()
