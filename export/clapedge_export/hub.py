"""Downloads from the hub with a time limit: without a network, the cache or an error answers within seconds."""

import logging
import threading
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download
from huggingface_hub import errors as hub_errors
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # exported at run time only
from huggingface_hub.utils.sha import git_hash

from clapedge.errors import ModelError
from clapedge.model.bundle import sha256
from clapedge_export.quiet import first_line, quiet

log = logging.getLogger("clapedge.export")

ANSWER_SECONDS = 8.0
"""Longest wait for the hub's first answer, since resolving a name has no time limit of its own."""

CHECKPOINT_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "README.md",
    "model.safetensors",
)
"""Files of a checkpoint; `pytorch_model.bin` is taken if the last is missing."""

KEPT = "run it again: files that have arrived are kept, one that broke off begins anew"
"""What to do about a download that broke off more often than the hub's library resumes it."""

OLD_WEIGHTS = "pytorch_model.bin"

FAILURES: tuple[type[Exception], ...] = (
    hub_errors.HTTPError,  # type: ignore[attr-defined]  # of the HTTP client, whichever the hub's library uses
    hub_errors.OfflineModeIsEnabled,
    hub_errors.LocalEntryNotFoundError,
    hub_errors.HFValidationError,
    OSError,
)
"""Errors that the hub's library raises for a model that it cannot get."""


class TerminalProgress(tqdm):
    """A progress bar of the hub's library that is drawn on terminals only, not into files."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # as tqdm takes them
        """Leave it to tqdm to find out, unless the bar is switched off anyway."""
        super().__init__(  # type: ignore[no-untyped-call]
            *arguments, **{**options, "disable": options.get("disable") or None}
        )


def fetch(name: str, files: Sequence[str], *, revision: str | None = None) -> tuple[Path, str | None]:
    """Return the directory of a model's files, downloaded or from the cache, and their commit.

    The hub's library resumes a download that breaks off, some times in a row. Each file is compared with the hash that
    the hub states, since that library compares sizes only. Its environment variables hold: `HF_HOME`, `HF_ENDPOINT`,
    `HF_TOKEN`, `HF_HUB_OFFLINE`. Where the hub does not answer, or refuses, a copy in the cache is used, with a notice.

    Args:
        name: hub id.
        files: which files, as far as the model has them.
        revision: branch, tag or commit.

    Raises:
        ModelError: the model does not exist, can be neither downloaded nor found in the cache, or is not what the hub
            states.
    """
    info, problem = _ask(name, revision)
    stated = {file.rfilename: file for file in info.siblings or ()} if info else {}
    wanted = list(files)
    # without a network its library demands every file that is asked for, so only what a first download took
    if stated and "model.safetensors" in wanted and "model.safetensors" not in stated:
        wanted.append(OLD_WEIGHTS)
    try:
        with quiet():
            snapshot = snapshot_download(
                name,
                revision=revision,
                allow_patterns=wanted,
                local_files_only=info is None,
                tqdm_class=TerminalProgress,
            )
    except FAILURES as error:
        raise ModelError(f"{name} cannot be downloaded: {problem or _problem(error, name, revision)}") from error
    path = Path(snapshot)
    commit = path.name if path.parent.name == "snapshots" else None
    if info is None:
        if not constants.HF_HUB_OFFLINE:
            log.warning("%s is taken from the cache, since it cannot be downloaded: %s", name, problem)
    elif commit not in (None, info.sha):
        raise ModelError(f"{name} has changed while it was downloaded; run it again, or name a revision")
    for file, sibling in stated.items():
        if (path / file).is_file():
            _check(path / file, sibling)
    return path, commit


def _ask(name: str, revision: str | None) -> tuple[ModelInfo | None, str]:
    """Return what the hub states about a model, or None with the reason and what to do about it."""
    if constants.HF_HUB_OFFLINE:
        return None, f"offline mode is on, and it is not in the cache; {_by_hand(name)}"
    answers: list[ModelInfo] = []
    failures: list[str] = []

    def ask() -> None:
        try:
            answers.append(HfApi().model_info(name, revision=revision, timeout=ANSWER_SECONDS / 2, files_metadata=True))
        except FAILURES as error:
            failures.append(_problem(error, name, revision, asking=True))

    # a daemon, so that a name server that never answers does not keep the process from ending
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if answers:
        return answers[0], ""
    silent = f"no answer from {constants.ENDPOINT} within {ANSWER_SECONDS:g} s; {_by_hand(name)}"
    return None, failures[0] if failures else silent


def _problem(error: Exception, name: str, revision: str | None, *, asking: bool = False) -> str:
    """Return why the hub did not give a model, and what to do: in words where its library has a code.

    Args:
        error: what its library raised.
        name: hub id.
        revision: what was asked for.
        asking: whether it was the first question, so that nothing was downloaded.
    """
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return f"it has no revision {revision}; name a branch, tag or commit of its page"
    if isinstance(error, hub_errors.GatedRepoError):
        return "access has to be granted; ask for it on the model's page, and set HF_TOKEN to your token"
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        return "there is no such model, or it is private; check its name, or set HF_TOKEN to a token that may read it"
    if isinstance(error, hub_errors.HfHubHTTPError) and error.response.status_code == HTTPStatus.UNAUTHORIZED:
        return "the hub does not accept the token; renew it, or remove HF_TOKEN"
    return f"{first_line(error)}; {_by_hand(name) if asking else KEPT}"


def _by_hand(name: str) -> str:
    """Return how to get a model without a network."""
    local = name.rpartition("/")[2]
    return (
        f"download it where there is a network with `hf download {name} --local-dir {local}`, copy that directory here "
        "and pass its path"
    )


def _check(file: Path, stated: RepoSibling) -> None:
    """Raise if a file is not the one that the hub states, and take it out of the cache."""
    expected = stated.lfs.sha256 if stated.lfs else stated.blob_id
    found = sha256(file) if stated.lfs else git_hash(file.read_bytes())
    if expected in (None, found):
        return
    file.resolve().unlink()  # the file of the cache to which the name is a link
    file.unlink(missing_ok=True)
    raise ModelError(
        f"{file.name} arrived with the hash {found[:12]}… instead of {str(expected)[:12]}…, and was removed from the "
        "cache; run it again, and if that recurs, check the proxy or mirror in between"
    )
