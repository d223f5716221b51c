"""Hosts that are network namespaces of this machine, each with an address and a name of its own."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_BRIDGE = "danetbr"
# `ip netns exec` shows the files of /etc/netns/NAME in place of those of /etc.
_FILES = Path("/etc/netns")


class Host:
    """One of the hosts of `network`."""

    def __init__(self, index: int):
        self.index, self.name = index, f"danet-host-{index}"
        self.address = f"10.77.0.{index + 1}"

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str], output: Path
    ) -> subprocess.Popen:
        """Starts a command on this host, whose output goes to a file; its pid is the command's."""
        inside = ("ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c")
        with output.open("wb") as file:
            return subprocess.Popen(
                [*inside, f'hostname {self.name} && exec "$@"', "sh", *command],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def processes(self) -> list[int]:
        """Returns the pids of all that runs on this host."""
        return [int(pid) for pid in _run("ip", "netns", "pids", self.name).split()]

    def connect(self, *, up: bool) -> None:
        """Plugs its network cable in or out."""
        _run("ip", "-n", self.name, "link", "set", "eth0", "up" if up else "down")


def why_impossible() -> str:
    """Returns what this machine lacks for `network`, "" if nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "the commands ip (iproute2) and unshare (util-linux) are not installed"
    return ""


@contextlib.contextmanager
def network(count: int) -> Iterator[list[Host]]:
    """Makes hosts that reach each other, and removes them at the end."""
    hosts = [Host(index) for index in range(count)]
    names = "".join(f"{host.address} {host.name}\n" for host in hosts)
    with contextlib.ExitStack() as stack:
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        stack.callback(_run, "ip", "link", "del", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")
        for host in hosts:
            _run("ip", "netns", "add", host.name)
            stack.callback(_run, "ip", "netns", "del", host.name)
            (_FILES / host.name).mkdir(parents=True)
            stack.callback(shutil.rmtree, _FILES / host.name)
            (_FILES / host.name / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
            cable = f"danet{host.index}"
            _run("ip", "link", "add", cable, "type", "veth", "peer", "eth0", "netns", host.name)
            _run("ip", "link", "set", cable, "master", _BRIDGE, "up")
            _run("ip", "-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            _run("ip", "-n", host.name, "link", "set", "lo", "up")
            host.connect(up=True)
        yield hosts


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
