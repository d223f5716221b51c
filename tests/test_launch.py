"""What launch/ asks of clouds and clusters, with stand-ins in their place; see stand_in.py."""

import ast
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from tests.launcher import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = ("gke.sh", "tpu-vm.sh", "instance-group.sh", "xpk.sh", "ssh.sh", "slurm.sbatch")
TRAINING = ("--config=cityscapes:recipe=large_batch", '--workdir=/mnt/danet/it\'s "a" $run; é')
TOGETHER = "--config.mesh.distributed=True"
COMMANDS = ("ssh", "gcloud", "kubectl", "xpk", "srun", "scontrol", "danet", "curl", "sudo")
# Each script with its environment.
GKE = {"NAME": "run", "IMAGE": "registry.example/a/danet:tpu", "CLAIM": "runs"}
TPU = {
    "NAME": "slice",
    "ZONE": "us-west4-b",
    "TYPE": "v5litepod-16",
    "RUNTIME": "v2-alpha-tpuv5-lite",
    "NFS": "10.0.0.2:/my runs",
    "PRICE": "1.20",
    "STAND_IN_WORKERS": "4",
}
GROUP = {
    "NAME": "group",
    "PROJECT": "mine",
    "ZONE": "us-east5-b",
    "MACHINE": "ct6e-standard-4t",
    "TOPOLOGY": "4x4",
    "IMAGE_FAMILY": "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e",
    "NFS": "10.0.0.2:/my runs",
}
XPK = {
    "NAME": "run",
    "CLUSTER": "cluster",
    "PROJECT": "mine",
    "ZONE": "us-west4-b",
    "TYPE": "v5litepod-256",
    "IMAGE": "registry.example/a/danet:tpu",
    "STORAGE": "runs",
}
LISTED = {
    "command": "gcloud",
    "part": "list-instances",
    "stdout": "group-a\ngroup-b\ngroup-c\ngroup-d",
}
# Installing is tested for itself.
PREPARED = {"command": "gcloud", "part": "danet-prepare", "status": 0}


class StandIns:
    """A folder of stand-ins, and scripts that run with it before all else on PATH."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "bin").mkdir()
        for name in COMMANDS:
            file = folder / "bin" / name
            # Without site-packages Python starts in a fraction of the time.
            text = Path(__file__).with_name("stand_in.py").read_text()
            file.write_text(f"#!{sys.executable} -SE\n{text.replace('@FOLDER@', str(folder))}")
            file.chmod(0o755)
        self.wheel = folder / "danet_jax-0.2.0-py3-none-any.whl"
        self.wheel.touch()
        self.rules()

    def rules(self, *rules: dict) -> None:
        (self.folder / "rules").write_text(repr(rules))

    def start(self, script: str, *arguments: str, **variables: str) -> subprocess.Popen:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "LOOK": "0.04",
            "WHEEL": str(self.wheel),
        }
        return subprocess.Popen(
            ["bash", str(LAUNCH / script), *arguments],
            env=environment | variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        process = self.start(script, *arguments, **variables)
        stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def notes(self) -> list[dict]:
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [ast.literal_eval(line) for line in lines]

    def calls(self, name: str, part: str = "") -> list[dict]:
        """The calls of a command, in order, in one of whose arguments is `part`."""
        return [
            call
            for call in self.notes()
            if call["name"] == name
            and "arguments" in call
            and any(part in argument for argument in ["", *call["arguments"]])
        ]

    def asked(self, name: str) -> list[list[str]]:
        return [call["arguments"] for call in self.calls(name)]

    def signalled(self) -> set[str]:
        return {note["host"] for note in self.notes() if note.get("signalled")}

    def wait_for_trainings(self, count: int) -> None:
        self.wait_for("danet", "train", count=count)

    def wait_for(self, name: str, part: str, *, count: int = 1) -> None:
        deadline = time.monotonic() + 30
        while len(self.calls(name, part)) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def stand_ins(tmp_path):
    return StandIns(tmp_path)


def trains(**facts) -> dict:
    return {"command": "danet"} | facts


def jobset(text: str) -> dict:
    (manifest,) = yaml.safe_load_all(text)
    return manifest


def job_of(manifest: dict) -> dict:
    (replicated,) = manifest["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    return replicated["template"]["spec"]


# --- All scripts ----------------------------------------------------------------------------------


def test_every_file_is_in_the_table():
    text = (LAUNCH / "README.md").read_text()
    for file in LAUNCH.iterdir():
        assert file.name == "README.md" or f"[{file.name}]({file.name})" in text, file


@pytest.mark.parametrize("script", [*SCRIPTS, "lib.sh"])
def test_scripts_are_strict(script):
    file = LAUNCH / script
    assert subprocess.run(["bash", "-n", str(file)]).returncode == 0
    lines = file.read_text().splitlines()
    code = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    assert not re.search(r"\beval\b", code)
    if script != "lib.sh":
        assert code.lstrip().startswith("set -euo pipefail")
    if script.endswith(".sh") and script != "lib.sh":
        assert os.access(file, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_nothing(script, stand_ins):
    outcome = stand_ins.run(script, "--help")
    assert outcome.returncode == 0, outcome.stderr
    assert "--config=cityscapes" in outcome.stdout
    assert not re.search(r"^#|set -e", outcome.stdout, re.M)


@pytest.mark.parametrize(
    ("script", "variables"),
    [("gke.sh", GKE), ("tpu-vm.sh", TPU), ("instance-group.sh", GROUP), ("xpk.sh", XPK)],
)
def test_what_is_missing_is_named(script, variables, stand_ins):
    for name in variables:
        if name in ("PRICE", "STAND_IN_WORKERS"):
            continue
        outcome = stand_ins.run(script, *TRAINING, **{**variables, name: ""})
        assert outcome.returncode == 2
        assert f"{name} is not set" in outcome.stderr
    for arguments in ((), TRAINING[:1], (TRAINING[0], "--workdir=here"), (*TRAINING, "a\nb")):
        outcome = stand_ins.run(script, *arguments, **variables)
        assert outcome.returncode == 2
        assert "rgument" in outcome.stderr
    assert stand_ins.calls("gcloud") == stand_ins.calls("kubectl") == stand_ins.calls("xpk") == []


# --- GKE ------------------------------------------------------------------------------------------


def test_the_jobset_is_a_v5e_256():
    text = (LAUNCH / "gke-jobset.yaml").read_text()
    manifest = jobset(text)
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    annotations = manifest["metadata"]["annotations"]
    topology = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    assert annotations == {topology: "cloud.google.com/gke-nodepool"}
    job = job_of(manifest)
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "16x16",
    }
    assert job["completions"] == job["parallelism"] == 64
    resources = container["resources"]
    assert resources["requests"] == resources["limits"] == {"google.com/tpu": 4}
    assert job["completions"] * resources["limits"]["google.com/tpu"] == 16 * 16
    assert job["completionMode"] == "Indexed"
    # The entry of the image is danet.
    assert "command" not in container
    assert container["args"][0] == "train"
    assert 'ENTRYPOINT ["danet"]' in (ROOT / "Dockerfile").read_text()
    # The batch of its example divides over the chips.
    assert any("batch=256" in argument for argument in container["args"])


def test_the_jobset_starts_again_but_for_mistakes():
    manifest = jobset((LAUNCH / "gke-jobset.yaml").read_text())
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0
    assert policy["restartStrategy"] == "BlockingRecreate"
    (rule,) = policy["rules"]
    assert rule["action"] == "FailJobSet"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    job = job_of(manifest)
    (pod_rule,) = job["podFailurePolicy"]["rules"]
    (container,) = job["template"]["spec"]["containers"]
    assert pod_rule == {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2]},
    }
    # Kubernetes takes a podFailurePolicy only with this, and one failed pod fails its job.
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["backoffLimit"] == 0
    # A checkpoint takes longer than the 30 seconds that Kubernetes gives otherwise.
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] >= 300


def test_volumes_are_mounted_where_the_runs_are():
    pod = job_of(jobset((LAUNCH / "gke-jobset.yaml").read_text()))["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"work": "/shared", "shm": "/dev/shm"}
    volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
    assert volumes.keys() == mounts.keys()
    assert volumes["shm"] == {"emptyDir": {"medium": "Memory"}}
    folders = [a.partition("=")[2] for a in container["args"] if "workdir" in a or "data_dir" in a]
    assert len(folders) == 2
    assert all(folder.startswith("/shared/") for folder in folders)


def topologies() -> list[tuple[str, str, int, int]]:
    """The rows of README.md's table: accelerator, topology, chips and pods."""
    row = re.compile(r"^\| `(tpu[\w-]+)` \| `([\dx]+)` \| (\d+) \| (\d+) \|", re.M)
    found = row.findall((LAUNCH / "README.md").read_text())
    return [(name, topology, int(chips), int(pods)) for name, topology, chips, pods in found]


def test_other_slices_follow_from_the_table(stand_ins):
    rows = topologies()
    assert len(rows) >= 8
    assert ("tpu-v5-lite-podslice", "16x16", 256, 64) in rows
    for accelerator, topology, chips, pods in rows:
        assert chips == math.prod(map(int, topology.split("x"))) == 4 * pods
        slice_ = {"ACCELERATOR": accelerator, "TOPOLOGY": topology, "PRINT": "yes"}
        outcome = stand_ins.run("gke.sh", *TRAINING, **GKE, **slice_)
        assert outcome.returncode == 0, outcome.stderr
        job = job_of(jobset(outcome.stdout))
        assert job["completions"] == job["parallelism"] == pods
        selector = job["template"]["spec"]["nodeSelector"]
        assert list(selector.values()) == [accelerator, topology]
    assert stand_ins.calls("kubectl") == []


def test_gke_creates_the_filled_jobset(stand_ins):
    odd = r"--config.data.data_dir=C:\a $(HOME) $$ # {x}"
    outcome = stand_ins.run("gke.sh", *TRAINING, odd, **GKE)
    assert outcome.returncode == 0, outcome.stderr
    (call,) = stand_ins.calls("kubectl")
    assert call["arguments"] == ["create", "--filename=-"]
    manifest, template = jobset(call["stdin"]), jobset((LAUNCH / "gke-jobset.yaml").read_text())
    pod, before = (job_of(one)["template"]["spec"] for one in (manifest, template))
    (container,), (old,) = pod["containers"], before["containers"]
    # Kubernetes reads $$ as $.
    assert [a.replace("$$", "$") for a in container["args"]] == [
        "train",
        *TRAINING,
        odd,
        TOGETHER,
    ]
    assert not any(re.search(r"(?<!\$)(\$\$)*\$(?!\$)", argument) for argument in container["args"])
    assert manifest["metadata"].pop("name") == "run"
    assert container.pop("image") == GKE["IMAGE"]
    assert pod["volumes"][0].pop("persistentVolumeClaim") == {"claimName": "runs"}
    # All else is as in the file.
    template["metadata"].pop("name")
    old.pop("image")
    before["volumes"][0].pop("persistentVolumeClaim")
    container["args"] = old["args"]
    assert manifest == template
    assert "kubectl delete jobset run" in outcome.stderr


def test_every_value_of_the_template_is_used_once():
    text = (LAUNCH / "gke-jobset.yaml").read_text()
    names = re.findall(r"^[^#]*  # ([A-Z]+)$", text, re.M)
    assert sorted(names) == sorted(
        ["NAME", "IMAGE", "CLAIM", "ARGUMENTS", "ACCELERATOR", "TOPOLOGY", "PODS", "PODS"]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"NAME": "Run"},
        {"NAME": 41 * "a"},
        {"TOPOLOGY": "16"},
        {"TOPOLOGY": "3x3"},
        {"IMAGE": "a: b"},
        {"CLAIM": "a\nb: c"},
        {"ACCELERATOR": "tpu v5"},
    ],
)
def test_gke_refuses_what_kubernetes_would(wrong, stand_ins):
    outcome = stand_ins.run("gke.sh", *TRAINING, **GKE | wrong)
    assert outcome.returncode == 2
    (name,) = wrong
    assert f"{name} is " in outcome.stderr
    assert stand_ins.calls("kubectl") == []


def test_a_failing_kubectl_is_no_success(stand_ins):
    stand_ins.rules({"command": "kubectl", "status": 1})
    outcome = stand_ins.run("gke.sh", *TRAINING, **GKE)
    assert outcome.returncode == 1
    assert "Follow it" not in outcome.stderr


def test_xpk_is_asked_for_one_workload(stand_ins):
    assert stand_ins.run("xpk.sh", *TRAINING, **XPK).returncode == 0
    (arguments,) = stand_ins.asked("xpk")
    assert arguments[:2] == ["workload", "create"]
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments[2:])
    assert shlex.split(options.pop("command")) == ["exec", "danet", "train", *TRAINING, TOGETHER]
    assert options == {
        "workload": "run",
        "cluster": "cluster",
        "project": "mine",
        "zone": "us-west4-b",
        "tpu-type": "v5litepod-256",
        "docker-image": XPK["IMAGE"],
        "storage": "runs",
        "max-restarts": "50",
        "restart-on-exit-codes": "75",
        "termination-grace-period-seconds": "600",
    }
    stand_ins.rules({"command": "xpk", "status": 3})
    assert stand_ins.run("xpk.sh", *TRAINING, **XPK).returncode == 3


# --- Plain hosts ----------------------------------------------------------------------------------

HOSTS = {"HOSTS": "me@one two three"}


def test_ssh_tells_each_process_of_the_others(stand_ins):
    outcome = stand_ins.run("ssh.sh", *TRAINING, **HOSTS)
    assert outcome.returncode == 0, outcome.stderr
    trainings = {call["host"]: call for call in stand_ins.calls("danet")}
    assert len(stand_ins.calls("danet")) == 3
    for index, host in enumerate(["me@one", "two", "three"]):
        assert trainings[host]["variables"] == {
            "JAX_COORDINATOR_ADDRESS": "one:8482",
            "JAX_NUM_PROCESSES": "3",
            "JAX_PROCESS_ID": str(index),
        }
        # What has quotes, spaces and dollars arrives as it is.
        arguments = trainings[host]["arguments"]
        assert arguments == ["train", *TRAINING, TOGETHER]
    assert all("BatchMode=yes" in call for call in stand_ins.asked("ssh"))


def test_ssh_takes_another_command_and_address(stand_ins):
    other = stand_ins.folder / "an other danet"
    other.symlink_to(stand_ins.folder / "bin/danet")
    settings = {"DANET": str(other), "COORDINATOR": "10.0.0.1", "PORT": "1234", "HOSTS": "one two"}
    outcome = stand_ins.run("ssh.sh", *TRAINING, **settings)
    assert outcome.returncode == 0, outcome.stderr
    commands = [call[-1] for call in stand_ins.asked("ssh")]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        assert "JAX_COORDINATOR_ADDRESS=10.0.0.1:1234" in words
        assert words[words.index("train") - 1] == str(other)


@pytest.mark.parametrize(
    ("statuses", "expected", "starts", "said"),
    [
        ((0, 0, 0), 0, 3, "The training is done"),
        # A mistake is one, whatever the others say of it.
        ((2, 2, 2), 2, 3, "has a mistake"),
        ((75, 2, 75), 2, 3, "has a mistake"),
        # Killed for its memory, and the others noticed.
        ((75, 137, 75), 75, 6, "after 1 more starts"),
        ((143, 143, 143), 143, 3, "ended with status 143"),
    ],
)
def test_ssh_ends_with_what_became_of_all(statuses, expected, starts, said, stand_ins):
    hosts = ("me@one", "two", "three")
    stand_ins.rules(
        *(trains(host=h, status=s, together=3) for h, s in zip(hosts, statuses, strict=True))
    )
    outcome = stand_ins.run("ssh.sh", *TRAINING, **HOSTS, RESTARTS="1")
    assert outcome.returncode == expected
    assert len(stand_ins.calls("danet")) == starts
    assert said in outcome.stderr


def test_ssh_starts_all_again_until_it_is_done(stand_ins):
    once = {"once": True, "together": 3}
    lost = [trains(host=host, status=75, **once) for host in 2 * ("me@one", "two")]
    killed = [trains(host="three", status=137, **once)] * 2
    stand_ins.rules(*lost, *killed)
    outcome = stand_ins.run("ssh.sh", *TRAINING, **HOSTS)
    assert outcome.returncode == 0, outcome.stderr
    hosts = [call["host"] for call in stand_ins.calls("danet")]
    assert [sorted(hosts[start : start + 3]) for start in (0, 3, 6)] == 3 * [
        ["me@one", "three", "two"]
    ]
    assert len(hosts) == 9


def test_ssh_ends_all_when_one_has_ended(stand_ins):
    stand_ins.rules(trains(host="two", status=2, together=3), trains(hang=True))
    outcome = stand_ins.run("ssh.sh", *TRAINING, **HOSTS, GRACE="0")
    assert outcome.returncode == 2
    assert stand_ins.signalled() == {"me@one", "three"}


def test_ssh_kills_what_hears_nothing(stand_ins):
    stand_ins.rules(trains(host="two", status=75), trains(hang="deaf"))
    outcome = stand_ins.run("ssh.sh", *TRAINING, **HOSTS, GRACE="0", SAVING="0", RESTARTS="0")
    assert outcome.returncode == 75
    assert "killing them" in outcome.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_script_saves_and_stops_all(number, stand_ins):
    stand_ins.rules(trains(hang=True))
    process = stand_ins.start("ssh.sh", *TRAINING, **HOSTS)
    stand_ins.wait_for_trainings(3)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143
    assert stand_ins.signalled() == {"me@one", "two", "three"}
    assert "the same command goes on" in stderr
    # Not started again.
    assert len(stand_ins.calls("danet")) == 3


def test_a_process_whose_connection_was_lost_is_stopped_before_the_next(stand_ins):
    home = stand_ins.folder / "hosts/one"
    home.mkdir(parents=True)
    stand_ins.rules(trains(hang=True, host=""))
    environment = {"PATH": f"{stand_ins.folder / 'bin'}:{os.environ['PATH']}"}
    with subprocess.Popen([stand_ins.folder / "bin/danet", "train"], env=environment) as old:
        stand_ins.wait_for_trainings(1)
        (home / ".danet-danet.pid").write_text(str(old.pid))
        # A process that has ended is there for its kin until its parent asks for its status.
        threading.Thread(target=old.wait, daemon=True).start()
        outcome = stand_ins.run("ssh.sh", *TRAINING, HOSTS="one")
        old.kill()
    assert outcome.returncode == 0, outcome.stderr
    assert old.returncode == 143
    assert f"Process {old.pid} of an earlier start" in outcome.stderr


def test_a_process_of_somebody_else_is_left_alone(stand_ins):
    home = stand_ins.folder / "hosts/one"
    home.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as other:
        (home / ".danet-danet.pid").write_text(str(other.pid))
        outcome = stand_ins.run("ssh.sh", *TRAINING, HOSTS="one")
        assert other.poll() is None
        other.kill()
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    "wrong", [{"HOSTS": "one one"}, {"RUN": "../a"}, {"RESTARTS": "often"}, {"PORT": "http"}]
)
def test_ssh_refuses(wrong, stand_ins):
    outcome = stand_ins.run("ssh.sh", *TRAINING, **HOSTS | wrong)
    assert outcome.returncode == 2
    assert next(iter(wrong)) in outcome.stderr
    assert stand_ins.calls("ssh") == []


# --- TPU VMs --------------------------------------------------------------------------------------


def test_a_tpu_slice_is_made_used_and_deleted(stand_ins):
    stand_ins.rules(PREPARED)
    outcome = stand_ins.run("tpu-vm.sh", *TRAINING, **TPU, PROJECT="mine", SPOT="yes")
    assert outcome.returncode == 0, outcome.stderr
    calls = stand_ins.asked("gcloud")
    assert [call[:4] for call in calls] == [
        ["compute", "tpus", "tpu-vm", name]
        for name in ("list", "create", "scp", "ssh", "ssh", "delete")
    ]
    for call in calls:
        assert {"--zone=us-west4-b", "--project=mine"} <= set(call)
    options = {"--accelerator-type=v5litepod-16", "--version=v2-alpha-tpuv5-lite", "--spot"}
    assert options <= set(calls[1])
    files = [str(stand_ins.wheel), str(LAUNCH / "../constraints.txt"), "slice:"]
    assert calls[2][4:7] == files
    assert all("--worker=all" in call for call in calls[2:5])
    (prepare,) = [a for a in calls[3] if a.startswith("--command=")]
    assert shlex.split(prepare)[-4:] == [
        "danet-prepare",
        "10.0.0.2:/my runs",
        stand_ins.wheel.name,
        "/mnt/danet",
    ]
    assert calls[5][4] == "slice"
    assert "--quiet" in calls[5]
    trainings = stand_ins.calls("danet")
    assert sorted(call["host"] for call in trainings) == ["w0", "w1", "w2", "w3"]
    for call in trainings:
        assert call["arguments"] == ["train", *TRAINING, TOGETHER]
    # 16 chips at 1.20 for 24 hours.
    assert "16 chips at 1.20 a chip-hour: 19.20 an hour, 461 a day" in outcome.stderr


@pytest.mark.parametrize(
    ("rules", "expected", "starts"),
    [
        ([trains(status=2)], 2, 4),
        ([trains(status=75)], 75, 12),
        ([trains(status=75, once=True, host=f"w{n}", together=4) for n in range(4)], 0, 8),
        ([{"command": "gcloud", "part": "scp", "status": 1}], 1, 0),
        ([{"command": "gcloud", "part": "create", "status": 1}], 1, 0),
        ([{"command": "gcloud", "part": "danet-prepare", "status": 2}], 2, 0),
    ],
)
def test_a_tpu_slice_is_deleted_whatever_happens(rules, expected, starts, stand_ins):
    stand_ins.rules(*rules, PREPARED)
    outcome = stand_ins.run("tpu-vm.sh", *TRAINING, **TPU, RESTARTS="2")
    assert outcome.returncode == expected, outcome.stderr
    assert len(stand_ins.calls("danet")) == starts
    assert stand_ins.asked("gcloud")[-1][3:5] == ["delete", "slice"]
    assert "The slice is deleted" in outcome.stderr


def test_a_signal_saves_stops_and_deletes(stand_ins):
    stand_ins.rules(PREPARED, trains(hang=True))
    process = stand_ins.start("tpu-vm.sh", *TRAINING, **TPU)
    stand_ins.wait_for_trainings(4)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143
    assert stand_ins.signalled() == {"w0", "w1", "w2", "w3"}
    assert stand_ins.asked("gcloud")[-1][3] == "delete"
    assert "The slice is deleted" in stderr


def test_a_second_signal_deletes_at_once(stand_ins):
    stand_ins.rules(PREPARED, trains(hang="deaf"))
    process = stand_ins.start("tpu-vm.sh", *TRAINING, **TPU | {"STAND_IN_WORKERS": "1"})
    stand_ins.wait_for_trainings(1)
    process.send_signal(signal.SIGTERM)
    # All are asked to save before the second.
    stand_ins.wait_for("gcloud", "danet-stop")
    process.send_signal(signal.SIGTERM)
    stand_ins.wait_for("gcloud", "delete")
    os.kill(stand_ins.calls("danet")[0]["process"], signal.SIGKILL)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "The slice is deleted" in stderr


def test_a_slice_that_was_there_before_is_not_touched(stand_ins):
    stand_ins.rules({"command": "gcloud", "part": "list", "stdout": "other\nslice"})
    outcome = stand_ins.run("tpu-vm.sh", *TRAINING, **TPU)
    assert outcome.returncode == 2
    assert "give another NAME" in outcome.stderr
    assert len(stand_ins.calls("gcloud")) == 1
    # Neither where gcloud can't say whether it was.
    stand_ins.rules({"command": "gcloud", "part": "list", "status": 1})
    assert stand_ins.run("tpu-vm.sh", *TRAINING, **TPU).returncode == 2
    assert len(stand_ins.calls("gcloud")) == 2


def test_what_is_not_deleted_is_said(stand_ins):
    stand_ins.rules(PREPARED, {"command": "gcloud", "part": "delete", "status": 1})
    outcome = stand_ins.run("tpu-vm.sh", *TRAINING, **TPU)
    assert outcome.returncode == 1
    assert "THE SLICE WAS NOT DELETED (16 chips at 1.20" in outcome.stderr
    line = outcome.stderr.splitlines()[-1]
    assert shlex.split(line)[1:] == stand_ins.asked("gcloud")[-1]


def test_a_slice_is_kept_where_that_is_wanted(stand_ins):
    stand_ins.rules(PREPARED)
    outcome = stand_ins.run("tpu-vm.sh", *TRAINING, **TPU, KEEP="yes")
    assert outcome.returncode == 0
    assert not any("delete" in call for call in stand_ins.asked("gcloud"))
    assert "until you delete it" in outcome.stderr
    assert shlex.split(outcome.stderr.splitlines()[-1])[:5] == [
        "gcloud",
        "compute",
        "tpus",
        "tpu-vm",
        "delete",
    ]


@pytest.mark.parametrize(
    ("kind", "chips"), [("v5litepod-256", 256), ("v6e-8", 8), ("v5p-8", 4), ("v4-32", 16)]
)
def test_chips_of_a_type(kind, chips, stand_ins):
    stand_ins.rules({"command": "gcloud", "part": "create", "status": 1})
    outcome = stand_ins.run("tpu-vm.sh", *TRAINING, **TPU | {"TYPE": kind, "PRICE": ""})
    assert f"{chips} chips: {24 * chips} chip-hours a day" in outcome.stderr


def test_a_group_is_made_used_and_deleted(stand_ins):
    stand_ins.rules(LISTED, PREPARED)
    outcome = stand_ins.run("instance-group.sh", *TRAINING, **GROUP, SPOT="yes")
    assert outcome.returncode == 0, outcome.stderr
    calls = stand_ins.asked("gcloud")
    assert all("--project=mine" in call for call in calls)
    (policy,) = [call for call in calls if "workload-policy" in call]
    assert set(policy[4:]) == {
        "group",
        "--project=mine",
        "--region=us-east5",
        "--type=HIGH_THROUGHPUT",
        "--accelerator-topology=4x4",
    }
    (template,) = [call for call in calls if call[1:3] == ["instance-templates", "create"]]
    assert {
        "--machine-type=ct6e-standard-4t",
        "--maintenance-policy=TERMINATE",
        f"--image-family={GROUP['IMAGE_FAMILY']}",
        "--image-project=ubuntu-os-accelerator-images",
        "--provisioning-model=SPOT",
        "--instance-termination-action=STOP",
    } <= set(template)
    (group,) = [call for call in calls if call[2:4] == ["managed", "create"]]
    assert {
        "--size=4",
        "--template=group",
        "--zone=us-east5-b",
        "--default-action-on-vm-failure=do-nothing",
        "--workload-policy=projects/mine/regions/us-east5/resourcePolicies/group",
    } <= set(group)
    order = [calls.index(call) for call in (policy, template, group)]
    assert order == sorted(order)
    trainings = stand_ins.calls("danet")
    assert sorted(c["host"] for c in trainings) == [f"group-{letter}" for letter in "abcd"]
    for call in trainings:
        assert call["arguments"] == ["train", *TRAINING, TOGETHER]
    copied = [call for call in calls if call[1] == "scp"]
    assert sorted(call[4] for call in copied) == [f"group-{letter}:" for letter in "abcd"]
    # What needs the others is deleted first.
    assert [call[1] for call in calls[-3:]] == [
        "instance-groups",
        "instance-templates",
        "resource-policies",
    ]
    assert all("delete" in call and "group" in call and "--quiet" in call for call in calls[-3:])


@pytest.mark.parametrize(
    ("rules", "expected", "deleted"),
    [
        ([trains(host="group-b", status=2), trains(status=75)], 2, 3),
        ([{"command": "gcloud", "part": "workload-policy", "once": True, "status": 1}], 1, 1),
        ([{"command": "gcloud", "part": "--machine-type=", "status": 1}], 1, 2),
        ([{"command": "gcloud", "part": "--size=", "status": 1}], 1, 3),
        ([{"command": "gcloud", "part": "wait-until", "status": 1}], 1, 3),
        ([{"command": "gcloud", "part": "list-instances", "stdout": "group-a"}], 2, 3),
        ([{"command": "gcloud", "part": "group-b:", "status": 1}], 1, 3),
    ],
)
def test_a_group_is_deleted_whatever_happens(rules, expected, deleted, stand_ins):
    listed = LISTED | {"stdout": "group-a\ngroup-b"}
    stand_ins.rules(*rules, listed, PREPARED)
    settings = GROUP | {"TOPOLOGY": "2x4", "RESTARTS": "0"}
    outcome = stand_ins.run("instance-group.sh", *TRAINING, **settings)
    assert outcome.returncode == expected, outcome.stderr
    deletions = ["delete" in call for call in stand_ins.asked("gcloud")]
    assert sum(deletions) == deleted
    assert all(deletions[-deleted:])


def test_parts_of_a_group_that_are_left_are_named(stand_ins):
    left = {"command": "gcloud", "part": "resource-policies", "status": 1}
    found = {"command": "gcloud", "part": "--format=value(name)", "stdout": ""}
    created = {"command": "gcloud", "part": "workload-policy", "stdout": ""}
    listed = LISTED | {"stdout": "group-a\ngroup-b"}
    stand_ins.rules(listed, found, created, left, PREPARED)
    outcome = stand_ins.run("instance-group.sh", *TRAINING, **GROUP | {"TOPOLOGY": "2x4"})
    assert outcome.returncode == 1
    assert "NOT ALL WAS DELETED" in outcome.stderr
    assert shlex.split(outcome.stderr.splitlines()[-1])[1:] == stand_ins.asked("gcloud")[-1]


@pytest.mark.parametrize("kind", ["instance-groups", "instance-templates", "resource-policies"])
def test_what_has_the_name_of_a_group_is_not_touched(kind, stand_ins):
    stand_ins.rules({"command": "gcloud", "part": kind, "stdout": "group"})
    outcome = stand_ins.run("instance-group.sh", *TRAINING, **GROUP)
    assert outcome.returncode == 2
    assert "give another NAME" in outcome.stderr
    assert all("list" in call for call in stand_ins.asked("gcloud"))


@pytest.mark.parametrize(
    "wrong",
    [{"TOPOLOGY": "2x2"}, {"TOPOLOGY": "4"}, {"MACHINE": "ct6e-standard-8t"}, {"ZONE": "us"}],
)
def test_a_group_that_is_no_slice_is_refused(wrong, stand_ins):
    outcome = stand_ins.run("instance-group.sh", *TRAINING, **GROUP | wrong)
    assert outcome.returncode == 2
    assert stand_ins.calls("gcloud") == []


def test_a_host_is_prepared(stand_ins):
    """The command is run as on a host, with stand-ins for what needs the network or root."""
    home, mounted = stand_ins.folder / "home", stand_ins.folder / "my runs"
    (home / ".local/bin").mkdir(parents=True)
    mounted.mkdir()
    for name in ("uv", "mountpoint", "mount.nfs"):
        (stand_ins.folder / "bin" / name).symlink_to(stand_ins.folder / "bin/danet")
    (home / ".local/bin/uv").symlink_to(stand_ins.folder / "bin/uv")
    stand_ins.rules({"command": "mountpoint", "status": 1})
    script = 'set -euo pipefail; source "$0"; prepare_command "$@"'
    arguments = ["nfs:/a b", "danet.whl", str(mounted)]
    made = subprocess.run(
        ["bash", "-c", script, str(LAUNCH / "lib.sh"), *arguments], capture_output=True, text=True
    )
    environment = {"PATH": f"{stand_ins.folder / 'bin'}:{os.environ['PATH']}", "HOME": str(home)}
    outcome = subprocess.run(["sh", "-c", made.stdout], env=environment, cwd=home)
    assert outcome.returncode == 0
    assert stand_ins.calls("curl") == []
    python = str(home / "danet/bin/python")
    venv, install = stand_ins.asked("uv")
    assert venv[-3:] == ["--python", "3.12", str(home / "danet")]
    assert install[install.index("--python") + 1 :] == [
        python,
        "--constraint",
        str(home / "constraints.txt"),
        str(home / "danet.whl[tpu]"),
    ]
    assert stand_ins.asked("sudo") == [
        ["mkdir", "-p", str(mounted)],
        ["mount", "-t", "nfs", "nfs:/a b", str(mounted)],
    ]


# --- Slurm and SkyPilot ---------------------------------------------------------------------------


def slurm(stand_ins, status: int, **variables: str) -> subprocess.CompletedProcess:
    stand_ins.rules({"command": "srun", "status": status})
    return stand_ins.run("slurm.sbatch", *TRAINING, SLURM_JOB_ID="17", **variables)


def test_slurm_runs_one_step(stand_ins):
    assert slurm(stand_ins, 0).returncode == 0
    (arguments,) = stand_ins.asked("srun")
    assert arguments == [
        "--kill-on-bad-exit=0",
        "--wait=300",
        "danet",
        "train",
        *TRAINING,
        TOGETHER,
    ]
    assert stand_ins.calls("scontrol") == []


def test_slurm_asks_for_a_process_a_gpu():
    options = dict(
        re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", (LAUNCH / "slurm.sbatch").read_text(), re.M)
    )
    # JAX gives a process of Slurm the one device that has its number on the node.
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert "requeue" in options
    assert options["signal"] == "TERM@300"
    assert options["open-mode"] == "append"


@pytest.mark.parametrize(
    ("status", "variables", "requeued"),
    [
        (2, {}, False),
        (1, {}, False),
        (75, {}, True),
        (137, {}, True),
        (75, {"SLURM_RESTART_COUNT": "10"}, False),
        (75, {"SLURM_RESTART_COUNT": "10", "RESTARTS": "11"}, True),
        # scancel, hours before the end.
        (143, {"SLURM_JOB_END_TIME": "later"}, False),
        (143, {}, False),
        # The time is over, however often it was before.
        (143, {"SLURM_JOB_END_TIME": "soon", "SLURM_RESTART_COUNT": "99"}, True),
    ],
)
def test_slurm_requeues(status, variables, requeued, stand_ins):
    seconds = {"later": 7200, "soon": 200}
    variables = {
        name: str(int(time.time()) + seconds[value]) if value in seconds else value
        for name, value in variables.items()
    }
    outcome = slurm(stand_ins, status, **variables)
    assert outcome.returncode == status
    assert stand_ins.asked("scontrol") == ([["requeue", "17"]] if requeued else [])


def test_slurm_refuses_what_is_no_job(stand_ins):
    outcome = stand_ins.run("slurm.sbatch", *TRAINING)
    assert outcome.returncode == 2
    assert "sbatch" in outcome.stderr
    outcome = stand_ins.run("slurm.sbatch", "--config=a", SLURM_JOB_ID="17")
    assert outcome.returncode == 2
    assert stand_ins.calls("srun") == []


def test_skypilot_starts_one_process_a_node(stand_ins):
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert task["num_nodes"] == 2
    recovery = task["resources"]["job_recovery"]
    assert recovery["recover_on_exit_codes"] == [75]
    assert recovery["max_restarts_on_errors"] > 0
    environment = {name: str(value) for name, value in task["envs"].items()} | {
        "WORKDIR": "/runs/a b",
        "ARGUMENTS": "--config.seed=3 --config.train.epochs=4",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
        "HOME": str(stand_ins.folder),
        "PATH": os.environ["PATH"],
    }
    danet = stand_ins.folder / "danet/bin/danet"
    danet.parent.mkdir(parents=True)
    danet.symlink_to(stand_ins.folder / "bin/danet")
    stand_ins.rules(trains(status=75))
    outcome = subprocess.run(["bash", "-c", task["run"]], env=environment)
    assert outcome.returncode == 75
    (call,) = stand_ins.calls("danet")
    assert call["arguments"] == [
        "train",
        "--config=cityscapes",
        "--workdir=/runs/a b",
        "--config.seed=3",
        "--config.train.epochs=4",
        TOGETHER,
    ]
    assert call["variables"] == {
        "JAX_COORDINATOR_ADDRESS": "10.0.0.1:8482",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
    }
    # The setup installs what the project says.
    assert ".[cuda13]" in task["setup"]
    assert subprocess.run(["bash", "-n"], input=task["setup"], text=True).returncode == 0
