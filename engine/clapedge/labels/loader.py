"""The label set that a user names: a file of any kind, a set stored in a bundle, or a shipped one."""

import os
from pathlib import Path

from clapedge.errors import BundleError, LabelError
from clapedge.labels.embedded import EmbeddedLabels
from clapedge.labels.files import find_file
from clapedge.labels.label_set import LabelSet
from clapedge.model.bundle import Bundle


def load_labels(name: str | os.PathLike[str], *, bundle: Bundle | None = None) -> LabelSet | EmbeddedLabels:
    """Load a label set: a file (.toml, .csv, .txt, .npz) first, else one stored in the bundle, else a shipped one.

    Args:
        name: a path, or the name of a stored or shipped set.
        bundle: whose stored sets may be named; None means that there are none.

    Raises:
        LabelError: there is no such set, or its file is not understood.
        BundleError: the stored set is damaged.
    """
    if bundle is not None and is_bare_name(name) and os.fspath(name) in bundle.label_sets:
        return stored_labels(bundle, os.fspath(name))
    path = find_file(name)
    return EmbeddedLabels.load(path) if path.suffix.lower() == ".npz" else LabelSet.from_file(path)


def is_bare_name(name: str | os.PathLike[str]) -> bool:
    """Return whether a name can only be that of a stored or shipped set, because no file has it."""
    path = Path(name)
    return not path.suffix and (path.is_dir() or not path.exists())


def stored_labels(bundle: Bundle, name: str) -> EmbeddedLabels:
    """Load the label set `labels/NAME.npz` of a bundle.

    Raises:
        BundleError: the bundle holds no such set, or it is damaged; the message names the sets that it holds.
    """
    stored = bundle.label_sets
    if name not in stored:
        held = ", ".join(stored) or "none"
        raise BundleError(f"bundle {bundle.directory} holds no label set {name!r} (it holds: {held})")
    try:
        return EmbeddedLabels.load(bundle.path(stored[name]))
    except LabelError as error:
        raise BundleError(f"bundle {bundle.directory}: {error}") from error
