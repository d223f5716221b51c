"""Topologies by name, and what their memory can hold."""

import pytest

from danet_jax.base.errors import UserError
from danet_jax.planning.chips import CHIPS, parse_topology
from danet_jax.planning.remedies import usable_memory


@pytest.mark.parametrize(
    ("text", "chips", "hosts"),
    [
        ("v5e:1x1", 1, 1),
        ("v5e:2x2", 4, 1),
        ("v5e:16x16", 256, 64),
        ("v6e:4x4", 16, 4),
        ("v5p:2x2x2", 8, 2),
        ("v5p:2x2x1", 4, 1),
        ("h100:8", 8, 1),
        ("a100:1", 1, 1),
    ],
)
def test_topologies(text, chips, hosts):
    topology = parse_topology(text)
    assert (topology.name, topology.chips, topology.hosts) == (text, chips, hosts)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("v5e", "v5e takes two sides.*such as v5e:4x4"),
        ("v5e:16", "v5e takes two sides"),
        ("v5e:0x4", "v5e takes two sides"),
        ("v5p:4x4", "v5p takes three sides"),
        ("h100:2x4", "h100 takes the number of GPUs"),
        ("h100:9", "at most 8 of these GPUs"),
        ("h10:8", r"'h10' is no chip .* Did you mean h100\?"),
        ("tpu:2x2", "is no chip that is known here: v5e, v5p, v6e, a100, h100"),
        ("", "is no chip"),
    ],
)
def test_wrong_topologies_are_explained(text, says):
    with pytest.raises(UserError, match=says):
        parse_topology(text)


def test_the_figures_are_plausible():
    for chip in CHIPS.values():
        assert chip.float32_rate <= chip.bfloat16_rate
        # A chip computes a hundred times and more in the time that it reads a number.
        assert 100 < chip.bfloat16_rate / chip.memory_rate < 1000
        assert chip.link_rate < chip.memory_rate
        assert chip.source.startswith("https://")
    # XLA's compilers say that so much is there of TPUs; JAX takes three quarters of a GPU.
    assert usable_memory(parse_topology("v5e:2x2")) == 15.75 * 2**30
    assert usable_memory(parse_topology("v6e:2x2")) == 31.25 * 2**30
    assert usable_memory(parse_topology("h100:8")) == 0.75 * 84_942_979_072
