"""Which devices JAX computes on, and whether a better one is left unused."""

import importlib.metadata
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import jax

from danet_jax.base.errors import UserError
from danet_jax.base.wording import counted
from danet_jax.console.terminal import say
from danet_jax.platform import Target
from danet_jax.runtime import parallel

PLATFORMS = "JAX_PLATFORMS"
# PCI's names of Google's TPUs: v2 and v3, v4, v5p, v5e, v6e, v7. Google's network cards have other
# numbers (jax._src.hardware_utils).
_GOOGLE = "0x1ae0"
_TPUS = {"0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"}
# Cloud TPU's machines have at least one of these in the environment of their containers.
_TPU_VARIABLES = ("TPU_WORKER_ID", "TPU_ACCELERATOR_TYPE", "TPU_NAME", "TPU_WORKER_HOSTNAMES")
_CUDA_PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")


def announce() -> None:
    """Says once for all processes which devices are used, and warns where a better one is not.

    Raises:
      UserError: see `check`.
    """
    check()
    if not parallel.is_main_process():
        return
    say(f"Devices: {describe()}")
    if warning := unused_accelerator(Target.here().platform):
        say(f"warning: {warning}")


def check() -> None:
    """Raises a UserError where JAX finds none of the devices that it was told to use."""
    try:
        jax.devices()
    except Exception as error:  # JAX raises a RuntimeError, or an AssertionError without a word
        reason = str(error).strip().partition("\n")[0].partition(f" (set {PLATFORMS}")[0]
        reason = reason.rstrip(".") or "no such device, or no JAX for it"
        wanted = os.environ.get(PLATFORMS)
        if not wanted:
            raise UserError(f"JAX finds no device to compute on: {reason}.") from error
        raise UserError(
            f"{PLATFORMS}={wanted}: JAX cannot use that here ({reason}). {_how_to_install(wanted)} "
            f"Or unset {PLATFORMS}, and JAX takes the best device that it finds."
        ) from error


def describe() -> str:
    """Returns the kind and number of all processes' devices, such as "8 × TPU v5e"."""
    devices = jax.devices()
    if devices[0].platform == "cpu":
        text = f"CPU, {counted(os.cpu_count() or 1, 'core')}"
        if len(devices) > jax.process_count():
            text += f" as {len(devices)} devices"
    else:
        text = f"{len(devices)} × {devices[0].device_kind}"
    if jax.process_count() > 1:
        text += f", in {jax.process_count()} processes"
    return text


def unused_accelerator(
    platform: str, *, root: Path = Path("/"), environment: Mapping[str, str] = os.environ
) -> str:
    """Returns a warning where this machine has a GPU or TPU and JAX does not use it, else "".

    Args:
      platform: which JAX uses: "cpu", "gpu" or "tpu".
      root: where the system's files lie, such as proc/driver/nvidia.
      environment: the process's variables.
    """
    if platform != "cpu":
        return ""
    kind, name, sign = "tpu", "a TPU", _sign_of_tpu(root, environment)
    if not sign:
        kind, name, sign = "cuda", "an NVIDIA driver", _sign_of_gpu(root, environment)
    if not sign:
        return ""
    return (
        f"this machine has {name} ({sign}), and JAX computes on the CPU. "
        f"{_why_unused(kind, environment)}"
    )


def _sign_of_gpu(root: Path, environment: Mapping[str, str]) -> str:
    """Returns what tells of an NVIDIA driver, "" where nothing does."""
    for place in ("proc/driver/nvidia/version", "dev/nvidia0"):
        if (root / place).exists():
            return f"/{place}"
    return shutil.which("nvidia-smi", path=environment.get("PATH", "")) or ""


def _sign_of_tpu(root: Path, environment: Mapping[str, str]) -> str:
    """Returns what tells of a TPU, "" where nothing does."""
    if found := sorted(root.glob("dev/accel[0-9]*")):
        return f"/{found[0].relative_to(root)}"
    for device in sorted(root.glob("sys/bus/pci/devices/*")):
        if _read(device / "vendor") == _GOOGLE and _read(device / "device") in _TPUS:
            return f"PCI {device.name}"
    # Any machine may pass devices on to virtual ones by VFIO.
    told = [name for name in _TPU_VARIABLES if environment.get(name)]
    if told and any(root.glob("dev/vfio/[0-9]*")):
        return f"/dev/vfio, {told[0]}"
    return ""


def _read(file: Path) -> str:
    try:
        return file.read_text().strip().lower()
    except OSError:
        return ""


def _why_unused(kind: str, environment: Mapping[str, str]) -> str:
    wanted = environment.get(PLATFORMS, "")
    if wanted and not {*wanted.split(",")} & {kind, "gpu"}:
        return f"{PLATFORMS}={wanted} keeps JAX from it: unset that to use it."
    hidden = environment.get("CUDA_VISIBLE_DEVICES")
    if kind == "cuda" and hidden is not None and hidden.strip() in ("", "-1", "NoDevFiles"):
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides the GPUs: unset that to use them."
    packages = _CUDA_PLUGINS if kind == "cuda" else ("libtpu",)
    installed = [name for name in packages if _is_installed(name)]
    if not installed:
        return _how_to_install(kind)
    return (
        f"{installed[0]} is installed and did not start; this says why: "
        f"{PLATFORMS}={kind} python -c 'import jax; jax.devices()'"
    )


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _how_to_install(platform: str) -> str:
    if "tpu" in platform:
        return 'For a TPU install JAX with its library: pip install "jax[tpu]".'
    if "cuda" in platform or "gpu" in platform:
        return (
            'For an NVIDIA GPU install JAX with CUDA: pip install "jax[cuda13]", or "jax[cuda12]" '
            "for older drivers."
        )
    return "Known are cpu, cuda and tpu."
