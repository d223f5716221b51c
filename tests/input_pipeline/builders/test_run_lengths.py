import numpy as np
import pytest

from danet_jax.input_pipeline.builders import run_lengths
from danet_jax.input_pipeline.checking.pairs import LabelError


def test_runs_go_down_the_columns():
    # 2 outside, 3 inside, 1 outside: the characters of 2, 3 and 1 are 48 further on.
    np.testing.assert_array_equal(run_lengths.decode("231", (2, 3)), [[0, 1, 1], [0, 1, 0]])


def test_from_the_fourth_on_runs_are_differences():
    # 1, 2, 3, then 1 = 2 - 1 and 2 = 3 - 1; -1 is 0b11111, character 31 + 48.
    expected = [[0, 0, 1], [1, 0, 0], [1, 0, 0]]
    np.testing.assert_array_equal(run_lengths.decode("123OO", (3, 3)), expected)


def test_large_numbers_take_several_characters():
    # 40 = 1·32 + 8: 8 with the mark that more follow is 40 + 48, "X"; then 1.
    np.testing.assert_array_equal(run_lengths.decode("X1", (8, 5)), np.zeros((8, 5)))
    # 16 needs a second character, since its fifth bit would make it negative.
    np.testing.assert_array_equal(run_lengths.decode("0`0", (4, 4)), np.ones((4, 4)))
    # 0, 30, 2, and 10 = 30 - 20; -20 is 12 with the mark, "\", then 31, "O".
    mask = run_lengths.decode("0n02\\O", (6, 7))
    np.testing.assert_array_equal(mask.T.ravel(), [1] * 30 + [0] * 2 + [1] * 10)


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ("", "no string of run lengths"),
        ("23X", "no string of run lengths"),
        ("2!1", "no string of run lengths"),
        ("23é", "no string of run lengths"),
        ("ooooooo0", "no string of run lengths"),
        ("232", "do not cover 3x2 pixels"),
        ("23", "do not cover 3x2 pixels"),
        ("2O5", "do not cover 3x2 pixels"),
    ],
)
def test_torn_strings(counts, says):
    with pytest.raises(LabelError, match=says):
        run_lengths.decode(counts, (2, 3))
