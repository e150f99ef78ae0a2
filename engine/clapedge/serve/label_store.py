"""Named label sets: those that the service starts with, and those that clients put."""

import json
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from clapedge.atomic_file import atomic_write
from clapedge.errors import LabelError, StorageError
from clapedge.labels import EmbeddedLabels, Label, LabelSet, shipped_sets
from clapedge.labels.loader import load_labels
from clapedge.serve.errors import RequestError, UnknownError
from clapedge.serve.settings import Settings
from clapedge.terminal import record_name

log = logging.getLogger("clapedge.serve")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
"""Names of sets, which become names of files: nothing that could leave the directory."""

SUFFIXES = (".toml", ".csv", ".txt")
"""Suffixes of the label files of `--labels-dir`; sets that clients put have the first."""


class LabelStore:
    """Label sets by name; those that clients put are kept in memory, or in `--labels-dir`.

    Attributes:
        default: name of the set for requests that name no labels.
        embedded: that set, if its file holds embeddings, as that of taught sounds does.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the label file of `--labels`, and check that the others can be read.

        Raises:
            LabelError: a label file is not understood.
        """
        self._settings = settings
        self._lock = threading.Lock()
        self._put: dict[str, LabelSet] = {}
        self.default = record_name(settings.labels.stem) if settings.labels else None
        loaded = load_labels(settings.labels) if settings.labels else None
        self.embedded = loaded if isinstance(loaded, EmbeddedLabels) else None
        own = loaded.label_set if isinstance(loaded, EmbeddedLabels) else loaded
        self._own = {self.default: own} if self.default and own else {}
        self._shipped = {name: LabelSet.from_file(path) for name, path in shipped_sets().items()}
        if settings.labels_dir is not None and not settings.labels_dir.is_dir():
            raise LabelError(f"--labels-dir {settings.labels_dir} is not a directory; make it first")
        for path in self._paths().values():
            LabelSet.from_file(path)

    def sets(self) -> Mapping[str, LabelSet]:
        """Return all sets by name: that of `--labels` first, the shipped ones last."""
        with self._lock:
            named = {**self._own, **self._readable(), **self._put}
            taken = {*named, *self._paths()}
            return {**named, **{name: one for name, one in self._shipped.items() if name not in taken}}

    def get(self, name: str) -> LabelSet:
        """Return a set.

        Raises:
            UnknownError: there is no set of that name.
        """
        with self._lock:
            paths = self._paths()
            if name not in self._put and name in paths:  # a fault of another file does not matter
                return LabelSet.from_file(paths[name])
            known = {**self._shipped, **self._own, **self._put}
        if name not in known:
            raise UnknownError(f"there is no label set {name!r:.60}; there are: {', '.join({**known, **paths})}")
        return known[name]

    def put(self, name: str, label_set: LabelSet) -> None:
        """Keep a set under a name; it replaces one that a client has put before.

        Raises:
            RequestError: the name is invalid or taken, or there are too many sets.
            StorageError: it cannot be written.
        """
        check_name(name)
        with self._lock:
            if name in self._own:
                raise RequestError(f"the label set {name!r} is the service's own; choose another name")
            known = {*self._put, *self._paths()}
            if name not in known and len(known) >= self._settings.max_sets:
                raise RequestError(f"{len(known)} label sets are kept, and no more; delete one first")
            if self._settings.labels_dir is None:
                self._put[name] = label_set
            else:
                _write(self._settings.labels_dir / f"{name}{SUFFIXES[0]}", label_set)

    def delete(self, name: str) -> None:
        """Delete a set that a client has put.

        Raises:
            UnknownError: no client has put a set of that name.
            StorageError: its file cannot be deleted.
        """
        check_name(name)
        with self._lock:
            if self._put.pop(name, None) is not None:
                return
            path = self._paths().get(name)
            if path is None or path.suffix != SUFFIXES[0]:  # clients put no others
                raise UnknownError(f"no label set {name!r} was put; those that the service brings stay")
            try:
                path.unlink()
            except OSError as error:
                raise StorageError(f"{path.name} cannot be deleted ({error.strerror}); check --labels-dir") from error

    def _paths(self) -> dict[str, Path]:
        """Return the label files of the directory by name; of several of one name, the one that a client has put."""
        if self._settings.labels_dir is None:
            return {}
        files = [path for path in self._settings.labels_dir.iterdir() if path.suffix in SUFFIXES]
        files.sort(key=lambda path: (path.stem, -SUFFIXES.index(path.suffix)))
        return {path.stem: path for path in files if NAME.fullmatch(path.stem)}

    def _readable(self) -> dict[str, LabelSet]:
        """Read the label files of the directory; log and leave out those that cannot be read."""
        found = {}
        for name, path in self._paths().items():
            try:
                found[name] = LabelSet.from_file(path)
            except LabelError as error:
                log.warning("%s", error)
        return found


def check_name(name: str) -> None:
    """Raise if a name is invalid.

    Raises:
        RequestError: it is; the message names what is valid.
    """
    if not NAME.fullmatch(name):
        raise RequestError(f"{name!r:.60} cannot name a label set; use up to 40 letters, digits, - and _")


def check_limits(label_set: LabelSet, settings: Settings) -> None:
    """Raise if a label set exceeds the limits of the service.

    Raises:
        LabelError: it does; the message names the limit.
    """
    labels = label_set.labels
    if len(labels) > settings.max_labels:
        raise LabelError(f"{len(labels)} labels are more than {settings.max_labels}; make several sets of them")
    check_prompts((*label_set.prompts, *(label.name for label in labels)), settings)


def check_prompts(texts: Sequence[str], settings: Settings) -> None:
    """Raise if texts are too many or too long.

    Raises:
        LabelError: they are; the message names the limit.
    """
    if len(texts) > settings.max_prompts:
        raise LabelError(f"{len(texts)} prompts and names are more than {settings.max_prompts}; leave some out")
    longest = max(map(len, texts))
    if longest > settings.max_characters:
        raise LabelError(f"a label or prompt has {longest} characters, more than {settings.max_characters}; shorten it")


def _write(path: Path, label_set: LabelSet) -> None:
    """Write a label file; it appears whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        with atomic_write(path) as unfinished:
            unfinished.write_text("\n".join(map(_table, label_set.labels)), encoding="utf-8")
    except StorageError as error:  # its message names a path, which clients must not see
        raise StorageError(f"{path.name} cannot be written; check --labels-dir on the service's side") from error


def _table(label: Label) -> str:
    """Return a label as a table of TOML."""
    fields = [f"name = {_quoted(label.name)}", f"prompts = [{', '.join(map(_quoted, label.prompts))}]"]
    if label.threshold is not None:
        fields.append(f"threshold = {float(label.threshold)!r}")
    if label.hidden:
        fields.append("hidden = true")
    return "\n".join(["[[label]]", *fields, ""])


def _quoted(text: str) -> str:
    """Return a string of TOML: JSON's, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
