"""A name to a checkpoint: hub id, local directory, LAION's `.pt`, or random weights."""

import dataclasses
import re
from pathlib import Path

from clapedge.errors import ModelError, UsageError
from clapedge_export import hub, laion, synthetic
from clapedge_export.checkpoint import Checkpoint, check_tokenizer, read_directory

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""The name of a model on the hub: organisation and model."""

LAION_SUFFIXES = {".pt", ".pth"}
"""Endings of checkpoints in LAION's own format."""


def load_checkpoint(
    name: str, *, revision: str | None = None, tokenizer: Path | None = None, seed: int = 0
) -> Checkpoint:
    """Load a checkpoint by its name.

    Args:
        name: hub id (`laion/clap-htsat-fused`), directory in the hub's layout, LAION's `.pt` file, or
            `random:clap-htsat-fused` and `random:clap-htsat-unfused`.
        revision: branch, tag or commit of a hub id.
        tokenizer: `tokenizer.json` or a directory that holds one, instead of the checkpoint's own.
        seed: of random weights.

    Raises:
        ModelError: the checkpoint does not exist, or is not understood.
        UsageError: a tokenizer is given for random weights.
    """
    path = Path(name).expanduser()
    if name.startswith(synthetic.PREFIX):
        if tokenizer is not None:
            raise UsageError(f"{name} makes its own tokenizer, so {tokenizer} would not be used; leave it out")
        checkpoint = synthetic.make_checkpoint(name, seed=seed)
    elif path.is_dir():
        checkpoint = read_directory(path, tokenizer=tokenizer)
    elif path.is_file():
        checkpoint = laion.read_checkpoint(path, tokenizer=tokenizer)
    elif HUB_ID.fullmatch(name) and path.suffix not in LAION_SUFFIXES:
        directory, commit = hub.fetch(name, hub.CHECKPOINT_FILES, revision=revision)
        checkpoint = dataclasses.replace(read_directory(directory, tokenizer=tokenizer), name=name, revision=commit)
    else:
        raise ModelError(
            f"{name} is not a directory, a file or a hub id; give a hub id such as laion/clap-htsat-fused, a "
            "downloaded directory, a LAION .pt file, or random:clap-htsat-fused"
        )
    check_tokenizer(checkpoint)
    return checkpoint
