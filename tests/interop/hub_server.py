"""A stand-in for a hub of models: as much of its interface as huggingface_hub asks for.

It keeps repositories in memory, listens on this machine alone, and ends with the test. What it
answers follows the requests of huggingface_hub 1 and 2; the real hub was not asked. It takes the
content of all files with their commit, where the real one wants large files sent beforehand.
"""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator

TOKEN = "hf_may_write"
# Larger requests are refused, so that no mistake fills the memory.
_LARGEST = 16 << 20


@dataclasses.dataclass
class Repository:
    """The files of each commit, and the commits of the branches."""

    private: bool = False
    branches: dict[str, str] = dataclasses.field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Adds files to a branch; returns the commit."""
        content = {**self.files(branch), **files}
        sha = hashlib.sha1(repr((branch, len(self.commits), content)).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = content, sha
        return sha

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """The files of a branch, of a commit, or none."""
        return self.commits.get(self.branches.get(branch, branch), {})

    def sha(self, revision: str) -> str | None:
        """The commit of a branch or a commit; None where there is none."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class Hub(http.server.ThreadingHTTPServer):
    """The stand-in: its repositories, and the paths of all requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files_asked_for(self) -> set[str]:
        """Names of the files whose content was asked for."""
        paths = [path for path in self.requests if path.startswith("GET") and "/resolve/" in path]
        return {path.rpartition("/")[2] for path in paths}


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Runs a stand-in while the block runs."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join(timeout=10)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def do_POST(self) -> None:
        parts = self._parts()
        length = int(self.headers.get("Content-Length", 0))
        if length > _LARGEST:
            self.close_connection = True
            return self._answer(413, {"error": "too large"})
        body = self.rfile.read(length)
        if self._token() != TOKEN:
            status = 403 if self._token() else 401
            return self._answer(status, {"error": "this token may not write"})
        match parts:
            case ["api", "validate-yaml"]:
                return self._answer(200, {"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                return self._create(json.loads(body))
            case ["api", "models", owner, name, action, revision]:
                return self._write(f"{owner}/{name}", action, revision, body)
        return self._answer(404, {"error": "no such page"})

    def _create(self, wanted: dict) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.server.repositories:
            return self._answer(409, {"error": "it is there already"})
        # Version 1 says "private", version 2 "visibility".
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.server.repositories[name] = Repository(private=bool(private))
        self.server.repositories[name].commit({".gitattributes": b""})
        return self._answer(200, {"url": f"{self.server.url}/{name}"})

    def _write(self, name: str, action: str, revision: str, body: bytes) -> None:
        repository = self.server.repositories[name]
        if action == "branch":
            repository.branches.setdefault(revision, repository.branches["main"])
            return self._answer(200, {})
        if action == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]
            return self._answer(200, {"files": modes})
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        sha = repository.commit(files, revision)
        url = f"{self.server.url}/{name}/commit/{sha}"
        return self._answer(200, {"commitUrl": url, "commitOid": sha, "success": True})

    def _get(self) -> None:
        parts = self._parts()
        is_page = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if is_page else parts
        repository = self.server.repositories.get(f"{owner}/{name}")
        if repository is None or (repository.private and not self._token()):
            return self._answer(404, {"error": "no repository"}, {"X-Error-Code": "RepoNotFound"})
        kind, revision, *path = [*rest, "revision", "main"][:2] + rest[2:]
        sha = repository.sha(revision)
        if sha is None:
            return self._answer(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[sha]
        if kind == "tree":
            entries = [
                {"type": "file", "path": path, "size": len(data), "oid": _oid(data)}
                for path, data in files.items()
            ]
            return self._answer(200, entries)
        if kind == "revision":
            about = {"id": f"{owner}/{name}", "sha": sha, "private": repository.private}
            siblings = [{"rfilename": path} for path in files]
            return self._answer(200, about | {"siblings": siblings, "tags": []})
        data = files.get("/".join(path))
        if data is None:
            return self._answer(404, {"error": "no file"}, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": sha}
        return self._answer(200, data, headers)

    def _parts(self) -> list[str]:
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        return [urllib.parse.unquote(part) for part in path.strip("/").split("/")]

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
