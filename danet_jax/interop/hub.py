"""A hub of models, through huggingface_hub: weights folders are fetched from it and put there."""

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from danet_jax.base.errors import UserError
from danet_jax.base.texts import one_line
from danet_jax.base.wording import listed
from danet_jax.interop.weights_files import ARRAYS_FILE, CARD_FILE, FILES, MANIFEST, read_manifest

# `Path` makes hf:/x of hf://x.
_SCHEME = re.compile("hf:/+")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
DEFAULT_REVISION = "main"
# Files that a hub or a person makes before there is a model.
_OF_EVERYBODY = re.compile(r"\.git(attributes|ignore|keep)|licen[cs]e(\.(md|txt|rst))?", re.I)
_INSTALL = 'pip install "huggingface_hub>=1,<3"'
# Errors of connections come from these libraries: huggingface_hub lets them through, and its major
# versions build on different ones.
_OF_CONNECTIONS = ("httpx", "httpx2", "httpcore", "httpcore2", "hf_xet", "requests", "urllib3")


@dataclasses.dataclass(frozen=True)
class Address:
    """A repository of a hub, and a branch, tag or commit of it."""

    repository: str
    revision: str = DEFAULT_REVISION

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.revision}"


def is_address(text: str) -> bool:
    """Whether a text names a repository of a hub and not a folder."""
    return bool(_SCHEME.match(text))


def parse(text: str) -> Address:
    """Returns the address of "hf://OWNER/NAME" or "hf://OWNER/NAME@REVISION"."""
    repository, _, revision = _SCHEME.sub("", text, count=1).partition("@")
    check_repository(repository, shown=text)
    revision = revision or DEFAULT_REVISION
    check_revision(revision, shown=text)
    return Address(repository, revision)


def check_repository(repository: str, *, shown: str) -> None:
    """Raises a UserError for what is no OWNER/NAME; `shown` stands before the message."""
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(
            f"{one_line(shown)}: a repository is OWNER/NAME, of letters, digits and the signs "
            "- _ . alone."
        )


def check_revision(revision: str, *, shown: str) -> None:
    """Raises a UserError for what is no branch, tag or commit; `shown` comes before the message."""
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise UserError(
            f"{one_line(shown)}: {one_line(revision)!r} is no branch, tag or commit; it consists "
            "of letters, digits and the signs - _ . / alone."
        )


def download(address: Address) -> Path:
    """Returns the local folder of a repository's weights, fetched where the cache lacks them.

    Only the files of the format are fetched, and the manifest before all others. Without a network
    the cache answers.

    Raises:
      UserError: huggingface_hub is not installed, there is no such repository or revision, it holds
        no weights of danet-jax, or the hub does not answer.
    """
    hub = _library(f"reading {address}")
    wanted = {"repo_id": address.repository, "library_name": "danet-jax"}
    with _failures(f"{address} cannot be read", address):
        folder = Path(
            hub.snapshot_download(**wanted, revision=address.revision, allow_patterns=[MANIFEST])
        )
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{address} holds no weights of danet-jax: it has no {MANIFEST}. Nothing else of it "
            "was fetched. Name a repository that `push` wrote to."
        )
    read_manifest(folder)
    with _failures(f"{address} cannot be read", address):
        # The commit that the manifest is of, since a branch may move meanwhile.
        return Path(
            hub.snapshot_download(**wanted, revision=folder.name, allow_patterns=list(FILES))
        )


class Upload:
    """Puts a checked folder into a repository, as one commit.

    Args:
      address: of the repository and the branch to write to.
      private: where the repository is made, only its owner sees it.

    Raises:
      UserError: huggingface_hub is not installed, or no token is here.
    """

    def __init__(self, address: Address, *, private: bool):
        self._hub = _library(f"writing to {address}")
        if not self._hub.get_token():
            raise UserError(
                f"No token of a hub is here, so nothing was sent to {address}: log in with "
                "`hf auth login`, or set HF_TOKEN to one that may write."
            )
        self._api = self._hub.HfApi(library_name="danet-jax")
        self._address, self._private = address, private

    @property
    def place(self) -> str:
        """The repository's page."""
        return f"{self._api.endpoint}/{self._address.repository}"

    def check(self) -> bool:
        """Returns whether the repository has to be made.

        Raises:
          UserError: it is there and public where it should be private, or holds another model, or
            the hub refuses.
        """
        from huggingface_hub import errors

        repository, revision = self._address.repository, self._address.revision
        with self._failures():
            try:
                info = self._api.model_info(repository, revision=revision)
            except errors.RevisionNotFoundError:
                # The branch will be made from this one, and hold its files.
                info = self._api.model_info(repository)
            except errors.GatedRepoError:
                raise
            except errors.RepositoryNotFoundError:
                return True
        if self._private and not info.private:
            raise UserError(
                f"{self.place} is there already, and public: --private makes new repositories "
                "private, and changes none. Change it on its page, or name another --repo."
            )
        names = {file.rfilename for file in info.siblings or ()}
        foreign = {name for name in names - {CARD_FILE} if not _OF_EVERYBODY.fullmatch(name)}
        if foreign and not (MANIFEST in names and self._is_ours(info.sha)):
            lacking = (
                f"no {MANIFEST}" if MANIFEST not in names else f"a {MANIFEST} of something else"
            )
            held = listed(map(one_line, sorted(foreign - {MANIFEST}))) or "no file beside it"
            raise UserError(
                f"{self.place}, revision {revision}, holds another model ({held}, and {lacking}): "
                "nothing was sent. Name a new --repo."
            )
        return False

    def _is_ours(self, commit: str) -> bool:
        """Whether the manifest of a commit is that of a weights folder."""
        with tempfile.TemporaryDirectory() as folder, self._failures():
            self._hub.hf_hub_download(
                self._address.repository, MANIFEST, revision=commit, local_dir=folder
            )
            try:
                read_manifest(Path(folder))
            except UserError:
                return False
        return True

    def send(self, folder: Path, files: Sequence[str], *, make: bool) -> str:
        """Makes the repository where asked for, and sends the files; returns the commit's page."""
        repository, revision = self._address.repository, self._address.revision
        with self._failures():
            if make:
                self._api.create_repo(repository, private=self._private, repo_type="model")
            if revision != DEFAULT_REVISION:
                self._api.create_branch(repository, branch=revision, exist_ok=True)
            commit = self._api.create_commit(
                repository,
                operations=[
                    self._hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name)
                    for name in files
                ],
                commit_message=f"Weights of danet-jax: {ARRAYS_FILE} and what it needs",
                revision=revision,
            )
        return commit.commit_url

    def _failures(self) -> contextlib.AbstractContextManager[None]:
        return _failures(f"{self._address} was not written", self._address)


def _library(purpose: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"{purpose} needs the package huggingface_hub, which is missing or does not load "
            f"({one_line(error)}): {_INSTALL}"
        ) from error
    return huggingface_hub


@contextlib.contextmanager
def _failures(what: str, address: Address) -> Iterator[None]:
    """Turns what huggingface_hub raises into messages that say what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{what}: its owner gives it only to those who asked. Ask on its page, and log in with "
            "`hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{what}: the hub has no repository {address.repository}, or it is private and no "
            "token here opens it. Correct the name, or log in with `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{what}: {address.repository} has no branch, tag or commit {address.revision}. Its "
            "page lists them."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{what}: the hub does not answer, and the cache of huggingface_hub does not hold it. "
            "Repeat it with a network, and without HF_HUB_OFFLINE."
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise UserError(f"{what}: HF_HUB_OFFLINE is set. Unset it, and repeat.") from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        advice = {
            401: "The token is not valid: log in anew with `hf auth login`.",
            403: "The token may not do that: take one with the right to write there.",
            429: "It was asked too often: wait some minutes.",
        }.get(status or 0, "Repeat it later.")
        raise UserError(f"{what}: the hub answered {_reason(error)}. {advice}") from error
    except ValueError as error:
        # An answer that is not of a hub, or a card's front matter that the hub does not take.
        raise UserError(f"{what}: {one_line(error)}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _OF_CONNECTIONS:
            raise
        raise UserError(
            f"{what}: there is no connection to the hub ({one_line(error) or 'cut off'}). Check "
            "the network, and repeat."
        ) from error


def _reason(error: Any) -> str:
    status = getattr(getattr(error, "response", None), "status_code", "an error")
    said = getattr(error, "server_message", None)
    return f"{status}, {one_line(said)}" if said else str(status)
