"""What a person is told about the devices that are used, and about those that are not."""

import pytest

from danet_jax.runtime.devices import unused_accelerator
from tests.runs import finish
from tests.test_command_line import check_message


def write(root, *files):
    for name, text in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


NVIDIA = [("proc/driver/nvidia/version", "NVRM version: …")]
PCI = "sys/bus/pci/devices/0000:00:05.0"
# Files of a machine, variables, and what the warning names; nothing for no warning.
MACHINES = {
    "nothing": ([], {}, ()),
    "driver": (
        NVIDIA,
        {},
        ("NVIDIA driver (/proc/driver/nvidia/version)", 'pip install "jax[cuda'),
    ),
    "device file": ([("dev/nvidia0", "")], {}, ("/dev/nvidia0",)),
    "platform forced": (NVIDIA, {"JAX_PLATFORMS": "cpu"}, ("JAX_PLATFORMS=cpu", "unset")),
    "gpus hidden": (NVIDIA, {"CUDA_VISIBLE_DEVICES": ""}, ("CUDA_VISIBLE_DEVICES=''", "unset")),
    "tpu v4": ([("dev/accel0", "")], {}, ("a TPU (/dev/accel0)", 'pip install "jax[tpu]"')),
    "another accelerator": ([("dev/accel/accel0", "")], {}, ()),
    "tpu v5e": (
        [(f"{PCI}/vendor", "0x1ae0\n"), (f"{PCI}/device", "0x0063\n")],
        {},
        ("a TPU (PCI 0000:00:05.0)",),
    ),
    "google's network card": (
        [(f"{PCI}/vendor", "0x1ae0\n"), (f"{PCI}/device", "0x0042\n")],
        {},
        (),
    ),
    "vfio of a tpu": ([("dev/vfio/0", "")], {"TPU_WORKER_ID": "0"}, ("TPU_WORKER_ID",)),
    "vfio of others": ([("dev/vfio/0", "")], {}, ()),
}


@pytest.mark.parametrize("name", MACHINES)
def test_an_accelerator_that_is_not_used_is_named(name, tmp_path):
    files, environment, fragments = MACHINES[name]
    write(tmp_path, *files)
    warning = unused_accelerator("cpu", root=tmp_path, environment=environment)
    assert bool(warning) == bool(fragments)
    for fragment in fragments:
        assert fragment in warning
    for used in ("gpu", "tpu"):
        assert unused_accelerator(used, root=tmp_path, environment=environment) == ""


def test_the_first_lines_name_the_devices_and_what_is_unused(workplace, finished, tmp_path):
    tool = tmp_path / "bin" / "nvidia-smi"
    write(tmp_path, ("bin/nvidia-smi", "#!/bin/sh\n"))
    tool.chmod(0o755)
    before = workplace.said.read_text().splitlines()
    assert before[0].startswith("Devices: CPU, ")
    assert not [line for line in before if line.startswith("warning: this machine")]
    for arguments in (
        ("predict", f"--input={workplace.source / 'val'}", f"--output={tmp_path / 'out'}"),
        ("eval", "--split=nonsense"),
    ):
        process = workplace.fork(
            *arguments,
            f"--workdir={finished}",
            environment={"PATH": str(tool.parent)},
        )
        said = finish(process).stderr.splitlines()
        assert said[0].startswith("Devices: CPU, ")
        assert f"NVIDIA driver ({tool}), and JAX computes on the CPU" in said[1]
        assert "JAX_PLATFORMS=cpu keeps JAX from it" in said[1]


@pytest.mark.parametrize(
    ("command", "platform", "cure"),
    [
        ("train", "nonsense", "cpu, cuda and tpu"),
        ("export", "cuda", "jax[cuda13]"),
    ],
)
def test_a_platform_that_is_not_there_is_a_message(
    command, platform, cure, workplace, finished, tmp_path
):
    arguments = {
        "train": workplace.config(),
        "export": ["--format=torch", f"--output={tmp_path / 'out'}"],
    }[command]
    workdir = tmp_path / "new" if command == "train" else finished
    # A process of its own, since JAX reads the variable when it is imported.
    process = workplace.start(
        command,
        f"--workdir={workdir}",
        *arguments,
        environment={"JAX_PLATFORMS": platform},
    )
    message = check_message(finish(process))
    assert message.startswith(f"JAX_PLATFORMS={platform}: ")
    assert cure in message
    assert "unset JAX_PLATFORMS" in message
    assert not list(tmp_path.iterdir())
