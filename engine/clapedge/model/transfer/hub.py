"""A bundle in a repository of the Hugging Face hub: `hf:ORG/NAME`, or `hf:ORG/NAME@REVISION`.

The hub's own library finds repositories, tokens and revisions, and makes commits; it is an extra, `hub`, though the
package `tokenizers` brings it anyway. Its environment variables hold: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`.
"""

import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clapedge.errors import BundleError, BundleNotFoundError, MissingExtraError, UsageError
from clapedge.model.bundle import MANIFEST_NAME, Bundle, Manifest
from clapedge.model.transfer.download import Download

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "hf:"

MAIN = "main"
"""Branch that is meant where no revision is named."""

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
REVISION = re.compile(r"[A-Za-z0-9][\w./-]*")

CARD = "README.md"
"""The page of a repository."""

NO_LICENCE = frozenset({"", "unknown", "none"})


@dataclass(frozen=True)
class Repository:
    """A repository of the hub at a revision.

    Attributes:
        name: organisation and name.
        revision: branch, tag or commit.
    """

    name: str
    revision: str = MAIN

    @classmethod
    def parse(cls, source: str, *, revision: str | None = None) -> "Repository":
        """Read `hf:ORG/NAME` or `hf:ORG/NAME@REVISION`.

        Args:
            source: the text.
            revision: a revision that is named elsewhere.

        Raises:
            UsageError: it is something else, or names two revisions.
        """
        name, at, own = source.removeprefix(PREFIX).partition("@")
        wanted = revision or own or MAIN
        if not source.startswith(PREFIX) or not NAME.fullmatch(name) or bool(at) > bool(own):
            raise UsageError(f"{source!r} is not hf:ORG/NAME or hf:ORG/NAME@REVISION; correct it")
        if not REVISION.fullmatch(wanted) or ".." in wanted:
            raise UsageError(f"revision {wanted!r} is none; name a branch, a tag or a commit")
        if own and revision and own != revision:
            raise UsageError(f"{source} and revision {revision} name two revisions; leave one out")
        return cls(name, wanted)

    def __str__(self) -> str:
        """Return the name as `parse` reads it."""
        return f"{PREFIX}{self.name}" + (f"@{self.revision}" if self.revision != MAIN else "")

    def pinned(self) -> "Repository":
        """Return the repository at the commit that its revision names now.

        Raises:
            BundleNotFoundError: there is no such repository or revision, or it holds no bundle.
            BundleError: it cannot be asked.
        """
        found = self._stated(MANIFEST_NAME)
        return Repository(self.name, found.commit_hash or self.revision)

    def download(self, path: str, *, size: int | None, limit: int) -> Download:
        """Return the download of a file.

        Args:
            path: its name in the repository.
            size: bytes that it must have; None takes what the hub states.
            limit: bytes that it may have at most.

        Raises:
            BundleError: it is not there, or has another size.
        """
        found = self._stated(path)
        if size is not None and found.size not in {None, size}:
            raise BundleError(
                f"{path} of {self} has {found.size} bytes where the manifest says {size}; push the bundle again"
            )
        with _hub_errors(self) as hub:
            own = hub.HfApi().endpoint
            headers = hub.utils.build_hf_headers()
        # storage elsewhere is addressed by signed URLs, and must not learn the token
        token = headers.get("authorization") if _host(found.location) == _host(own) else None
        stated = {"Authorization": token} if token else None
        return Download(url=found.location, size=size or found.size, limit=limit, headers=stated)

    def _stated(self, path: str) -> Any:  # noqa: ANN401 - types of the hub's library, which is an extra
        """Return what the hub states about a file."""
        with _hub_errors(self, path) as hub:
            url = hub.hf_hub_url(self.name, path, revision=self.revision)
            return hub.get_hf_file_metadata(url)


@contextmanager
def _hub_errors(repository: Repository, path: str | None = None) -> Iterator[Any]:
    """Yield the hub's library, and turn its errors into ours.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub import constants, errors
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # that of its HTTP client
    except ImportError as error:
        raise MissingExtraError(f"{repository}", "hub") from error
    if constants.HF_HUB_OFFLINE:
        raise BundleError(f"{repository} is not asked for, since HF_HUB_OFFLINE is set; unset it, or pull it elsewhere")
    try:
        yield hub
    except errors.GatedRepoError as error:
        raise BundleError(
            f"{repository} is for those who accepted its terms; do so on its page, and put a token into HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BundleNotFoundError(
            f"{repository} does not exist, or is private; check the name, and the token in HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise BundleNotFoundError(f"{repository.name} has no revision {repository.revision!r}; check it") from error
    except errors.EntryNotFoundError as error:
        what = "is no bundle (it has no manifest.json)" if path == MANIFEST_NAME else f"lacks {path}"
        raise BundleNotFoundError(f"{repository} {what}; make one with: clapedge bundle push") from error
    except (HTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{repository} cannot be reached ({reason}); check the network and HF_ENDPOINT") from error


def push(bundle: Bundle, repository: Repository, *, private: bool = False, message: str | None = None) -> str:
    """Put a bundle into a repository in one commit, and make the repository if there is none.

    A page (README.md) is written where the repository has none. Files of an earlier bundle that the manifest does not
    name stay: nothing fetches them.

    Args:
        bundle: every file is checked first.
        repository: where; at the branch `main`.
        private: whether a new repository is private.
        message: of the commit.

    Returns:
        The commit.

    Raises:
        BundleDamagedError: a file is not what the manifest says.
        BundleError: the hub does not take it.
    """
    if repository.revision != MAIN:
        raise UsageError(f"{repository} names a revision, and a bundle is pushed to main; leave it out")
    paths = {file.path: bundle.path(file) for file in bundle.manifest.files}
    paths[MANIFEST_NAME] = bundle.directory / MANIFEST_NAME
    with _hub_errors(repository) as hub:
        api = hub.HfApi()
        api.create_repo(repository.name, private=private, exist_ok=True)
        content: dict[str, Path | bytes] = dict(paths)
        if not api.file_exists(repository.name, CARD):
            content[CARD] = card(bundle.manifest, repository).encode()
        commit = api.create_commit(
            repository.name,
            [hub.CommitOperationAdd(path, source) for path, source in content.items()],
            commit_message=message or f"clapedge bundle of {bundle.manifest.model}",
        )
        return str(commit.oid)


def card(manifest: Manifest, repository: Repository) -> str:
    """Return the page of a repository."""
    licence = "" if manifest.licence.lower() in NO_LICENCE else f"license: {manifest.licence}\n"
    notes = "".join(f"- {note}\n" for note in manifest.notes)
    spaces = ", ".join(f"`{space}`" for space in manifest.spaces.values())
    return (
        f"---\n{licence}library_name: clapedge\ntags:\n- clapedge\n- zero-shot-audio-classification\n---\n\n"
        f"# {manifest.model} for clapedge\n\n"
        f"A bundle of `{manifest.model}` ({manifest.weights} weights): ONNX graphs, verified when they were exported. "
        f"Embedding spaces: {spaces}.\n\n"
        f"```sh\nclapedge bundle pull {repository}\nclapedge score kitchen.wav -l rain --bundle {repository}\n```\n"
        f"{chr(10) if notes else ''}{notes}"
    )


def _host(url: str) -> tuple[str, str | None, int | None]:
    """Return what a token belongs to: scheme, host and port of a URL."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
