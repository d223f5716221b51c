"""What is read from the text of a compiled program, against programs that are known."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from danet_jax.planning.arrays import array_bytes
from danet_jax.planning.program import Collective, read_contents
from danet_jax.runtime import parallel

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("f32[2,3]{1,0}", 24),
        ("bf16[8,128]{1,0:T(8,128)(2,1)S(1)}", 2048),
        ("(f32[4]{0}, /*index=1*/pred[3]{0}, s32[])", 23),
        ("token[]", 0),
        ("f8e4m3fn[16]", 16),
        ("s4[3]", 2),
    ],
)
def test_bytes_of_types(text, size):
    assert array_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        # The innermost axis is padded to 128, the one before it to 8.
        ("bf16[3,8,100]{2,1,0:T(8,128)(2,1)}", 3 * 8 * 128 * 2),
        ("f32[100,3]{0,1:T(8,128)}", 128 * 8 * 4),
        ("f32[5]{0:T(256)}", 1024),
        ("f32[]{:T(128)}", 4),
        ("bf16[8,128]{1,0:T(8,128)(2,1)S(1)}", 0),
        ("(f32[4]{0}, s32[2]{0:S(5)})", 16),
    ],
)
def test_bytes_in_main_memory(text, size):
    assert array_bytes(text, main_memory=True) == size


@pytest.fixture(scope="module")
def mesh():
    return parallel.create_mesh(devices=jax.devices()[:8])


def contents(function, *args, **options):
    return read_contents(jax.jit(function, **options).lower(*args).compile().as_text())


def sharded(mesh, sides, *axes):
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.ShapeDtypeStruct(sides, jnp.float32, sharding=sharding)


def test_a_sum_over_chips_is_one_all_reduce(mesh):
    found = contents(
        lambda x: jnp.sum(x, axis=0),
        sharded(mesh, (64, 1024), "data"),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )
    assert found.collectives == {Collective("all-reduce", 4096, 8): 1}
    # In a ring each chip sends all but its own part twice.
    assert found.sent == 2 * 7 / 8 * 4096


def test_collectives_of_loops_count_in_each_round(mesh):
    def loop(x, y):
        def add(carry, _):
            total = jnp.sum(carry * y, axis=0)
            return carry + total[None], None

        return jax.lax.scan(add, x, None, length=5)[0]

    x = sharded(mesh, (64, 1024), "data")
    found = contents(loop, x, x)
    assert sum(found.collectives.values()) == 5
    assert {one.kind for one in found.collectives} == {"all-reduce"}


def test_an_array_that_is_brought_together(mesh):
    found = contents(
        lambda x: x + 1,
        sharded(mesh, (64, 1024), "data"),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )
    ((one, count),) = found.collectives.items()
    assert (one.kind, one.bytes, one.group, count) == ("all-gather", 8 * 4096, 8, 1)
    assert found.sent == 7 * 8 * 4096


def test_bytes_of_a_sum():
    x = jax.ShapeDtypeStruct((MIB // 4,), jnp.float32)
    found = contents(lambda x, y: jnp.sin(x) + y, x, x)
    assert found.bytes == 3 * MIB
    assert found.collectives == {}


def test_a_loop_reads_its_slices_and_not_the_whole_array_each_time():
    def rows(x):
        return jax.lax.map(jnp.sin, x)

    x = jax.ShapeDtypeStruct((64, MIB // 64 // 4), jnp.float32)
    found = contents(rows, x)
    # Each row is read and written once; a whole array in each round would be 64 times as much.
    assert 2 * MIB <= found.bytes < 5 * MIB


def test_convolutions_and_products_are_counted():
    def both(x, kernel, matrix):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y @ matrix

    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    found = contents(both, shape((1, 64, 64, 8)), shape((3, 3, 8, 16)), shape((16, 300)))
    assert sum(found.kernels.values()) == 2
    assert "convolution" in found.kernels


TPU = """HloModule jit_step, is_scheduled=true, num_partitions=8

%add.clone (x.1: f32[], y.1: f32[]) -> f32[] {
  %x.1 = f32[]{:T(128)} parameter(0)
  %y.1 = f32[]{:T(128)} parameter(1)
  ROOT %add.9 = f32[]{:T(128)} add(%x.1, %y.1)
}

%fused_computation (param_0: bf16[4,8,128]) -> bf16[8,128] {
  %param_0 = bf16[4,8,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  ROOT %slice.3 = bf16[8,128]{1,0:T(8,128)(2,1)} slice(%param_0), slice={[0:1], [0:8], [0:128]}
}

ENTRY %main.5_spmd (param.1: bf16[4,8,128], param.2: f32[256]) -> (f32[256], bf16[8,128]) {
  %param.1 = bf16[4,8,128]{2,1,0:T(8,128)(2,1)} parameter(0), sharding={replicated}
  %param.2 = f32[256]{0:T(256)} parameter(1)
  %all-reduce-start = f32[256]{0:T(256)} all-reduce-start(%param.2), channel_id=1, \
replica_groups=[2,4]<=[8], use_global_device_ids=true, to_apply=%add.clone
  %fusion.1 = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%param.1), kind=kLoop, calls=%fused_computation
  %all-reduce-done = f32[256]{0:T(256)} all-reduce-done(%all-reduce-start)
  ROOT %tuple = (f32[256]{0:T(256)}, bf16[8,128]{1,0:T(8,128)(2,1)}) \
tuple(%all-reduce-done, %fusion.1)
}
"""
GPU = """HloModule jit_step

ENTRY %main (p0: f32[8,16], p1: f32[16,32]) -> f32[8,32] {
  %p0 = f32[8,16]{1,0} parameter(0)
  %p1 = f32[16,32]{1,0} parameter(1)
  %cudnn-conv.1 = (f32[8,32]{1,0}, u8[1024]{0}) custom-call(%p0, %p1), \
custom_call_target="__cudnn$convForward", backend_config={}
  %gte = f32[8,32]{1,0} get-tuple-element(%cudnn-conv.1), index=0
  %rs = ((f32[8,32]{1,0}), f32[1,32]{1,0}) reduce-scatter-start(%gte), replica_groups={{0,1,2,3}}
  ROOT %gemm = f32[8,32]{1,0} fusion(%p0, %p1), kind=kCustom, calls=%missing, \
backend_config={"fusion_backend_config":{"kind":"__triton_gemm"}}
}
"""


def test_the_text_of_tpus():
    found = read_contents(TPU)
    assert found.collectives == {Collective("all-reduce", 1024, 4): 1}
    # The exchange reads and writes its array; of the other the fusion reads a quarter.
    assert found.bytes == 2 * 1024 + 2 * 2048


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1,2},{3,4,5}}", 3),
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("mesh['axis_0'=4,'axis_1'=2,'axis_2'=1] {'axis_0','axis_1'}", 8),
        ("mesh['axis_0'=16] {'axis_0':(1)4}", 4),
        # All of them, of which the head of the text tells the number.
        ("{}", 8),
    ],
)
def test_who_exchanges(groups, size):
    found = read_contents(TPU.replace("[2,4]<=[8]", groups))
    assert {one.group for one in found.collectives} == {size}


LOOP = """HloModule jit_step, num_partitions=4

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%body (b: (s32[], f32[256])) -> (s32[], f32[256]) {
  %b = (s32[]{:T(128)}, f32[256]{0:T(256)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%b), index=0
  %v = f32[256]{0:T(256)} get-tuple-element(%b), index=1
  %all-reduce.1 = f32[256]{0:T(256)} all-reduce(%v), replica_groups={}, to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[256]{0:T(256)}) tuple(%i, %all-reduce.1)
}

%condition (c: (s32[], f32[256])) -> pred[] {
  %five = s32[]{:T(128)} constant(5)
  %c = (s32[]{:T(128)}, f32[256]{0:T(256)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%j, %five), direction=LT
}

ENTRY %main (p: (s32[], f32[256])) -> (s32[], f32[256]) {
  %p = (s32[]{:T(128)}, f32[256]{0:T(256)}) parameter(0)
  %large = f32[1024,1024]{1,0:T(8,128)} parameter(1)
  %s = ((f32[1024,1024]{1,0:T(8,128)}), f32[8,1024]{1,0:T(8,128)S(1)}, s32[]) slice-start(%large)
  %d = f32[8,1024]{1,0:T(8,128)S(1)} slice-done(%s)
  %copy = (f32[8,1024]{1,0:T(8,128)}, f32[8,1024]{1,0:T(8,128)S(1)}, u32[]) copy-start(%d)
  %done = f32[8,1024]{1,0:T(8,128)} copy-done(%copy)
  ROOT %w = (s32[]{:T(128)}, f32[256]{0:T(256)}) while(%p), condition=%condition, body=%body
}
"""


EXCHANGE_BESIDE_OTHER_WORK = """
HloModule jit_f, num_partitions=4

%start (p: f32[2,8]) -> f32[8,8] {
  %p = f32[2,8]{1,0} parameter(0)
  ROOT %gather = f32[8,8]{1,0} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}
}

%end (q: f32[2,8]) -> f32[8,8] {
  %q = f32[2,8]{1,0} parameter(0)
  ROOT %gather.1 = f32[8,8]{1,0} all-gather(%q), channel_id=7, replica_groups={{0,1,2,3}}
}

ENTRY %main (x: f32[2,8]) -> f32[8,8] {
  %x = f32[2,8]{1,0} parameter(0)
  %fusion = f32[8,8]{1,0} fusion(%x), kind=kCustom, calls=%start
  ROOT %fusion.1 = f32[8,8]{1,0} fusion(%x), kind=kCustom, calls=%end
}
"""


def test_an_exchange_that_is_written_down_twice_counts_once():
    (one,) = read_contents(EXCHANGE_BESIDE_OTHER_WORK).collectives.items()
    assert one == (Collective("all-gather", 64, 4), 1)


def test_rounds_of_loops_that_only_the_condition_tells():
    found = read_contents(LOOP)
    assert found.collectives == {Collective("all-reduce", 1024, 4): 5}
    # A slice is read into the fast memory and written back from there; each round reads and
    # writes its array.
    assert found.bytes == 2 * 8 * 1024 * 4 + 5 * 2 * 1024


def test_the_text_of_gpus():
    found = read_contents(GPU)
    assert found.kernels == {"__cudnn$convForward": 1, "__triton_gemm": 1}
    assert found.collectives == {Collective("reduce-scatter", 1024, 4): 1}
    assert found.sent == pytest.approx(0.75 * 1024)
