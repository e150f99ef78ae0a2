"""Downloads from the hub with a time limit: without a network, the cache or an error answers within seconds."""

import threading
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub import errors as hub_errors

from clapedge.errors import ModelError
from clapedge_export.quiet import first_line, quiet

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

OLD_WEIGHTS = "pytorch_model.bin"

FAILURES: tuple[type[Exception], ...] = (
    hub_errors.HTTPError,  # type: ignore[attr-defined]  # of the HTTP client, whichever the hub's library uses
    hub_errors.OfflineModeIsEnabled,
    hub_errors.LocalEntryNotFoundError,
    hub_errors.HFValidationError,
    OSError,
)
"""Errors that the hub's library raises for a model that it cannot get."""


def fetch(name: str, files: Sequence[str], *, revision: str | None = None) -> tuple[Path, str | None]:
    """Return the directory of a model's files, downloaded or from the cache, and their commit.

    The hub's own environment variables hold: `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`.

    Args:
        name: hub id.
        files: which files, as far as the model has them.
        revision: branch, tag or commit.

    Raises:
        ModelError: the model does not exist, or can be neither downloaded nor found in the cache.
    """
    present, reason = _ask(name, revision)
    wanted = list(files)
    if present is not None and "model.safetensors" in wanted and "model.safetensors" not in present:
        wanted.append(OLD_WEIGHTS)
    try:
        with quiet():
            directory = snapshot_download(
                name,
                revision=revision,
                allow_patterns=wanted if present is not None else [*wanted, OLD_WEIGHTS],
                local_files_only=present is None,
            )
    except FAILURES as error:
        raise ModelError(
            f"{name} cannot be downloaded ({reason or first_line(error)}); download it where there is a network with "
            f"`hf download {name} --local-dir {name.rpartition('/')[2]}`, copy that directory here and pass its path"
        ) from error
    path = Path(directory)
    return path, path.name if path.parent.name == "snapshots" else None


def _ask(name: str, revision: str | None) -> tuple[set[str] | None, str]:
    """Return the names of a model's files, or None and the reason why they are unknown."""
    if constants.HF_HUB_OFFLINE:
        return None, "offline mode is on, and it is not in the cache"
    answers: list[set[str]] = []
    failures: list[str] = []

    def ask() -> None:
        try:
            info = HfApi().model_info(name, revision=revision, timeout=ANSWER_SECONDS / 2)
            answers.append({file.rfilename for file in info.siblings or ()})
        except FAILURES as error:
            failures.append(first_line(error))

    # a daemon, so that a name server that never answers does not keep the process from ending
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if answers:
        return answers[0], ""
    return None, failures[0] if failures else f"no answer from {constants.ENDPOINT} within {ANSWER_SECONDS:g} s"
