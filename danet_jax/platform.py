"""What "auto" means on a platform and a mesh.

This is the only place that chooses by the name of a platform (`ops.resize` names GPUs for programs
that are exported for several). What it chooses is handed down as values, so that a program can be
compiled for devices that are absent, and each choice can be tested on a CPU.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax import export as jax_export

from danet_jax.ops.implementation import Implementation
from danet_jax.ops.shards import ONE_DEVICE, Shards

PLATFORMS = ("cpu", "gpu", "tpu")
# MiB that one image's energies may take before "auto" computes them in parts, and the share of it
# that rows take at a time; 512 also on an accelerator of another name. On CPU the smaller form is
# also the faster one.
_ENERGY_MEMORY = {"cpu": 128, "gpu": 512, "tpu": 512}
_ROW_SHARE = 8
# MiB on a device that one map's full-size logits may take before "auto" computes the loss by rows.
_LOGIT_MEMORY = {"cpu": 64, "gpu": 512, "tpu": 512}


@dataclasses.dataclass(frozen=True)
class Target:
    """The devices that a program is made for, which may be absent from this machine."""

    # "cpu", "gpu" or "tpu".
    platform: str
    # Among how many devices a batch is divided, and an image's rows.
    data: int = 1
    space: int = 1

    @classmethod
    def here(cls) -> "Target":
        """One of JAX's default devices."""
        return cls(jax.default_backend())

    @classmethod
    def of_mesh(cls, mesh: jax.sharding.Mesh) -> "Target":
        """The devices of a mesh ("data", "space")."""
        return cls(mesh.devices.flat[0].platform, mesh.shape["data"], mesh.shape["space"])

    @property
    def lowering_platform(self) -> str:
        """What JAX calls the platform where it lowers a program."""
        if self.platform == jax.default_backend():
            return jax_export.default_export_platform()
        return "cuda" if self.platform == "gpu" else self.platform


def implementation(model_config: ml_collections.ConfigDict, target: Target) -> Implementation:
    """Returns the form of each operation of a network that `config.model` describes.

    Its fields position_attention, energy_memory, remat and conv_weight_gradient are resolved here.
    """
    is_cpu, is_shared = target.platform == "cpu", target.space > 1
    asked = model_config["conv_weight_gradient"]
    if asked != "auto":
        plain = dilated = strided = asked
    elif is_shared or target.platform == "tpu":
        # Products would gather rows that lie on several devices. On a TPU they read and write more
        # than its own convolution with a large kernel does, and take twice as long to compile.
        plain = dilated = strided = "native"
    else:
        # cuDNN has an algorithm of its own where the dilation is 1.
        plain, dilated, strided = "einsum" if is_cpu else "native", "einsum", "einsum"
    if not is_cpu:
        # Products would read slices with a stride, at which XLA's compiler for GPUs aborts; so this
        # holds also where products are asked for.
        strided = "native"

    budget = (model_config["energy_memory"] or _ENERGY_MEMORY.get(target.platform, 512)) * 2**20
    parts = "tiles" if is_cpu else "rows"
    asked_attention = model_config["position_attention"]
    recompute = model_config["remat"]
    if recompute == "auto":
        recompute = "light" if is_cpu else "none"
    return Implementation(
        convolution="winograd" if is_cpu and not is_shared and asked == "auto" else "native",
        weight_gradient=plain,
        dilated_weight_gradient=dilated,
        strided_weight_gradient=strided,
        stored_convolutions=target.platform == "tpu",
        position_attention="full" if asked_attention == "full" else parts,
        full_attention_bytes=0 if asked_attention == "chunked" else budget,
        attention_row_bytes=budget // _ROW_SHARE,
        recompute=recompute,
        ordered_gradients=is_cpu,
        residual_relu="materialized" if is_cpu else "fused",
        # Two processes on CPUs that merged their statistics ended once with a mismatch of
        # collectives (gloo), which they have not done with the formula alone.
        shards=ONE_DEVICE if is_cpu else Shards(target.data, target.space),
        resize="row_products" if target.platform == "gpu" else "one_product",
    )


def for_inference(implementation: Implementation, target: Target, dtype: Any) -> Implementation:
    """Returns the forms of a network whose parameters `evaluation.inference` has prepared."""
    # Accelerators have fast convolutions of their own, and sums of narrow numbers lose too much.
    winograd_kernels = target.platform == "cpu" and dtype == jnp.float32
    return dataclasses.replace(implementation, folded_norms=True, winograd_kernels=winograd_kernels)


def logit_bytes(loss_config: ml_collections.ConfigDict, target: Target) -> int | None:
    """Returns the bytes that a batch's full-size logits may take at once, None for any number."""
    if target.space > 1:
        # Devices that share an image's rows hold a part of them each anyway.
        return None
    mebibytes = loss_config["logit_memory"] or _LOGIT_MEMORY.get(target.platform, 512)
    return mebibytes * 2**20 * target.data


def compiler_options(target: Target, *, runs_once: bool = False) -> dict[str, Any] | None:
    """Returns XLA's options for a program of many runs or of a single one."""
    if target.platform != "cpu":
        return None
    if runs_once:
        # Compiled in half the time, to the same numbers.
        lighter = jax.config.read("jax_disable_most_optimizations")
        return None if lighter else {"xla_backend_optimization_level": 1}
    return {
        # The default scheduler overlaps what does not depend on each other, and holds the memory
        # of both; every product takes all cores already.
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
        # It takes optimization barriers away, without which what the gradient computes anew is
        # merged with what was computed before it, and kept.
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }
