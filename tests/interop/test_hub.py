"""Weights from a hub and to one, by huggingface_hub, which asks a stand-in on this machine."""

import contextlib
import json
import pickle
import socket
import subprocess
import sys

import numpy as np
import pytest

import danet_jax
from danet_jax.interop import weights_files
from tests.interop.folders import filled_in, photo
from tests.interop.hub_server import TOKEN, Hub, Repository, serving
from tests.launcher import ROOT

pytest.importorskip("huggingface_hub")

REPOSITORY = "lab/streets"
# Reads a repository without JAX, as far as `from_folder` does before it makes the network.
READ = """
import sys
from danet_jax.base.errors import UserError
from danet_jax.interop import hub, weights_files
try:
    folder = hub.download(hub.parse(sys.argv[1]))
    weights_files.check_files(folder, weights_files.read_manifest(folder))
except UserError as error:
    raise SystemExit(f"error: {error}")
print(folder)
assert "jax" not in sys.modules
"""
COMPARE = """
import sys
import numpy as np
import danet_jax
address, workdir, image = *sys.argv[1:3], np.load(sys.argv[3])
labels = danet_jax.Predictor.from_folder(address)(image)
assert len(np.unique(labels)) > 1
np.testing.assert_array_equal(labels, danet_jax.Predictor.from_workdir(workdir)(image))
"""


@pytest.fixture
def hub():
    with serving() as hub:
        yield hub


@pytest.fixture
def folder(exported, tmp_path):
    """A copy whose licence is filled in."""
    return filled_in(exported, tmp_path / "folder")


@pytest.fixture
def python(workplace, tmp_path, hub):
    """Runs a script or a module with an account of its own, and the stand-in as the hub."""

    def run(*arguments, **environment):
        own = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "account"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        others = {n: v for n, v in workplace.environment.items() if not n.startswith("HF_")}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=others | own | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def push(python, folder):
    def run(*arguments, token=TOKEN, **environment):
        arguments = [f"--folder={folder}", f"--repo={REPOSITORY}", *arguments]
        return python("main.py", "push", *arguments, HF_TOKEN=token, **environment)

    return run


def put(hub: Hub, folder, *, repository=REPOSITORY, branch="main", **others) -> Repository:
    found = hub.repositories.setdefault(repository, Repository())
    files = {name: (folder / name).read_bytes() for name in weights_files.FILES}
    found.commit(files | others, branch)
    return found


def refused(outcome, *says, status=2):
    assert outcome.returncode == status, outcome.stderr
    assert "Traceback" not in outcome.stderr
    for words in says:
        assert words in outcome.stderr, outcome.stderr


# --- reading -------------------------------------------------------------------------------------


def test_what_is_pushed_predicts_as_the_run_does(hub, python, push, finished, tmp_path):
    outcome = push()
    assert outcome.returncode == 0, outcome.stderr
    assert f"to {hub.url}/{REPOSITORY} (a new public repository), revision main:" in outcome.stdout
    assert set(hub.repositories[REPOSITORY].files()) == {*weights_files.FILES, ".gitattributes"}
    hub.repositories[REPOSITORY].commit({"weights.pkl": pickle.dumps("code")})
    np.save(tmp_path / "image.npy", photo())
    outcome = python("-c", COMPARE, f"hf://{REPOSITORY}", finished, tmp_path / "image.npy")
    assert outcome.returncode == 0, outcome.stderr
    # Nothing else was even fetched.
    assert hub.files_asked_for() == set(weights_files.FILES)


def test_a_revision_is_read(hub, python, exported):
    put(hub, exported, branch="main")
    first = hub.repositories[REPOSITORY].branches["main"]
    put(hub, exported, branch="v2", **{"other.txt": b"new"})
    for revision, sha in {"v2": hub.repositories[REPOSITORY].branches["v2"], first: first}.items():
        outcome = python("-c", READ, f"hf://{REPOSITORY}@{revision}")
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout.strip().endswith(sha)
    refused(
        python("-c", READ, f"hf://{REPOSITORY}@v3"),
        f"{REPOSITORY} has no branch, tag or commit v3",
        status=1,
    )


def test_the_cache_answers_without_a_network(hub, python, exported):
    put(hub, exported)
    assert python("-c", READ, f"hf://{REPOSITORY}").returncode == 0
    count = len(hub.requests)
    for away in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": unreachable()}):
        outcome = python("-c", READ, f"hf://{REPOSITORY}", **away)
        assert outcome.returncode == 0, outcome.stderr
        refused(
            python("-c", READ, "hf://lab/other", **away),
            "hf://lab/other@main cannot be read: the hub does not answer",
            status=1,
        )
    assert len(hub.requests) == count


def unreachable() -> str:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_an_unknown_repository_is_named(hub, python):
    hub.repositories["lab/secret"] = Repository(private=True)
    for name in ("lab/nothing", "lab/secret"):
        outcome = python("-c", READ, f"hf://{name}")
        refused(outcome, f"the hub has no repository {name}, or it is private", status=1)


def test_of_another_model_only_the_manifest_is_looked_for(hub, python):
    hub.repositories[REPOSITORY] = Repository()
    other = {"model.safetensors": b"large", "config.json": b"{}", "weights.bin": b"\x80\x04."}
    hub.repositories[REPOSITORY].commit(other)
    outcome = python("-c", READ, f"hf://{REPOSITORY}")
    refused(outcome, "holds no weights of danet-jax: it has no manifest.json", status=1)
    assert hub.files_asked_for() == set()


def test_weights_that_were_changed_on_the_hub_are_refused(hub, python, exported):
    data = bytearray((exported / "model.safetensors").read_bytes())
    data[-1] ^= 1
    put(hub, exported, **{"model.safetensors": bytes(data)})
    outcome = python("-c", READ, f"hf://{REPOSITORY}")
    refused(outcome, "model.safetensors is not what was exported", status=1)


def test_an_answer_that_is_not_a_hubs_is_a_message(hub, python):
    outcome = python("-c", READ, f"hf://{REPOSITORY}", HF_ENDPOINT=f"{hub.url}/somewhere")
    refused(outcome, f"hf://{REPOSITORY}@main cannot be read: ", status=1)


@pytest.mark.parametrize(
    "address", ["hf://streets", "hf://lab/streets/deep", "hf://lab/str eets", "hf://a/b@../c"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(danet_jax.base.errors.UserError, match=r"OWNER/NAME|no branch, tag"):
        danet_jax.Predictor.from_folder(address)


def test_without_the_library_its_installation_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(danet_jax.base.errors.UserError, match=r"pip install .huggingface_hub"):
        danet_jax.Predictor.from_folder("hf://lab/streets")


# --- writing -------------------------------------------------------------------------------------


def test_push_says_what_it_sends_and_where(hub, push, folder):
    (folder / "notes.txt").write_text("mine")
    outcome = push("--private", "--revision=draft")
    assert outcome.returncode == 0, outcome.stderr
    said = outcome.stdout
    assert f"to {hub.url}/{REPOSITORY} (a new private repository), revision draft:" in said
    for name in weights_files.FILES:
        assert f"{name}  {(folder / name).stat().st_size:,} bytes" in said
    assert "not of the format, and not sent: notes.txt" in said
    found = hub.repositories[REPOSITORY]
    assert found.private
    assert {*found.files("draft")} == {*weights_files.FILES, ".gitattributes"}
    assert {*found.files("main")} == {".gitattributes"}
    assert found.files("draft")["README.md"] == (folder / "README.md").read_bytes()


def test_push_adds_a_commit_to_its_own_repository(hub, push, folder):
    put(hub, folder)
    outcome = push()
    assert outcome.returncode == 0, outcome.stderr
    assert "(there), revision main" in outcome.stdout
    assert len(hub.repositories[REPOSITORY].commits) == 2


def test_push_overwrites_no_other_model(hub, push):
    hub.repositories[REPOSITORY] = Repository()
    hub.repositories[REPOSITORY].commit({"model.safetensors": b"theirs", "config.json": b"{}"})
    refused(push(), "holds another model (config.json, model.safetensors, and no manifest.json)")
    assert hub.repositories[REPOSITORY].files()["model.safetensors"] == b"theirs"


@pytest.mark.parametrize("manifest", [b'{"name": "app"}', b"torn", b'{"format": "torch"}'])
def test_push_looks_into_a_manifest(hub, push, manifest):
    theirs = {"model.safetensors": b"theirs", "manifest.json": manifest}
    hub.repositories[REPOSITORY] = Repository()
    hub.repositories[REPOSITORY].commit(theirs)
    refused(push(), "another model (model.safetensors, and a manifest.json of something else)")
    assert hub.repositories[REPOSITORY].files() == theirs


def test_push_looks_at_the_branch_that_it_writes_to(hub, push, folder):
    found = put(hub, folder)
    found.commit({"model.safetensors": b"theirs", "manifest.json": b"{}"}, "other")
    theirs = found.files("other")
    refused(push("--revision=other"), "revision other, holds another model")
    assert found.files("other") == theirs
    # A new branch holds the files of main.
    assert push("--revision=new").returncode == 0


def test_push_overwrites_no_card_of_another_kind_of_model(hub, push):
    for name in ("pytorch_model.bin", "license_plates.pt"):
        theirs = {".gitattributes": b"", "README.md": b"my card", name: b"theirs"}
        hub.repositories[REPOSITORY] = Repository()
        hub.repositories[REPOSITORY].commit(theirs)
        refused(push(), f"holds another model ({name}, and no manifest.json)")
        assert hub.repositories[REPOSITORY].files() == theirs
    hub.repositories[REPOSITORY] = Repository()
    hub.repositories[REPOSITORY].commit(
        {".gitattributes": b"", "README.md": b"", "LICENSE": b"MIT"}
    )
    assert push().returncode == 0


def test_push_does_not_make_public_what_should_be_private(hub, push, folder):
    put(hub, folder)
    refused(push("--private"), "is there already, and public")
    assert len(hub.repositories[REPOSITORY].commits) == 1


def test_push_needs_a_token_that_may_write(hub, push):
    refused(push(token=""), "No token of a hub is here", "hf auth login", "HF_TOKEN")
    assert hub.requests == []
    refused(push(token="hf_reads"), "was not written: the hub answered 403", "right to write")
    assert hub.repositories == {}


def test_push_without_a_network_says_so(push):
    refused(push(HF_ENDPOINT=unreachable()), "was not written: there is no connection to the hub")


def test_push_refuses_a_card_without_a_licence(hub, push, exported, folder):
    (folder / "README.md").write_bytes((exported / "README.md").read_bytes())
    refused(push(), "the licence is not filled in: line 2, `license: TO-BE-FILLED-IN")
    assert hub.requests == []


def test_push_refuses_changed_weights(hub, push, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["classes.json"]["sha256"] = 64 * "0"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused(push(), "classes.json is not what was exported")
    assert hub.requests == []


def test_push_refuses_what_is_no_repository(push):
    refused(push("--repo=streets"), "--repo streets: a repository is OWNER/NAME")
    refused(push("--repo=hf://lab/streets"), "--repo takes OWNER/NAME without the scheme")
    refused(push("--revision=a b"), "'a b' is no branch, tag or commit")
