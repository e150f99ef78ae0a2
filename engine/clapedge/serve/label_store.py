"""Named label sets: those that the service was started with, and those that clients put."""

import json
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from clapedge.atomic_file import atomic_write
from clapedge.errors import LabelError, StorageError
from clapedge.labels import Label, LabelSet, shipped_sets
from clapedge.serve.errors import RequestError, UnknownError
from clapedge.serve.settings import Settings

log = logging.getLogger("clapedge.serve")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
"""Names of sets: they become file names, so nothing that could lead anywhere."""

SUFFIXES = (".toml", ".csv", ".txt")
"""Label files that are read from `--labels-dir`; sets that are put become the first of them."""


class LabelStore:
    """Label sets by name. Those that are put are kept in memory, or in a directory if one was named."""

    def __init__(self, settings: Settings) -> None:
        """Read the label file of `--labels`, and look that the others can be read.

        Raises:
            LabelError: a label file is not understood.
        """
        self._settings = settings
        self._lock = threading.Lock()
        self._put: dict[str, LabelSet] = {}
        self.default: str | None = None
        self._own: dict[str, LabelSet] = {}
        if settings.labels is not None:
            self.default = settings.labels.stem
            self._own[self.default] = LabelSet.from_file(settings.labels)
        self._shipped = {name: LabelSet.from_file(path) for name, path in shipped_sets().items()}
        if settings.labels_dir is not None and not settings.labels_dir.is_dir():
            raise LabelError(f"--labels-dir {settings.labels_dir} is no directory; make it first")
        for path in self._paths().values():
            LabelSet.from_file(path)

    def sets(self) -> Mapping[str, LabelSet]:
        """Return all sets by name: those of `--labels` first, then what was put or lies in the directory."""
        with self._lock:
            return {**self._own, **self._readable(), **self._put, **self._missing()}

    def get(self, name: str) -> LabelSet:
        """Return a set.

        Raises:
            UnknownError: there is none of that name.
        """
        with self._lock:
            paths = self._paths()
            if name not in self._put and name in paths:  # it alone is read, whatever is wrong with another file
                return LabelSet.from_file(paths[name])
            known = {**self._shipped, **self._own, **self._put}
        if name not in known:
            raise UnknownError(f"there is no label set {name!r:.60}; there are: {', '.join({**known, **paths})}")
        return known[name]

    def put(self, name: str, label_set: LabelSet) -> None:
        """Keep a set under a name; one that a client has put before is replaced.

        Raises:
            RequestError: the name cannot be one, is taken, or there are too many sets.
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
        """Forget a set that a client has put.

        Raises:
            UnknownError: nobody has put one of that name.
            StorageError: its file cannot be deleted.
        """
        check_name(name)
        with self._lock:
            if self._put.pop(name, None) is not None:
                return
            path = self._paths().get(name)
            if path is None or path.suffix != SUFFIXES[0]:  # a client puts no others, so they are not its to delete
                raise UnknownError(f"no label set {name!r} was put; those that the service brings stay")
            try:
                path.unlink()
            except OSError as error:
                raise StorageError(f"{path.name} cannot be deleted ({error.strerror}); check --labels-dir") from error

    def _missing(self) -> dict[str, LabelSet]:
        """Return the shipped sets that no other one of the same name replaces."""
        taken = {*self._own, *self._paths(), *self._put}
        return {name: label_set for name, label_set in self._shipped.items() if name not in taken}

    def _paths(self) -> dict[str, Path]:
        """Return the label files of the directory by the name of their set; what a client put is before others."""
        if self._settings.labels_dir is None:
            return {}
        files = [path for path in self._settings.labels_dir.iterdir() if path.suffix in SUFFIXES]
        files.sort(key=lambda path: (path.stem, -SUFFIXES.index(path.suffix)))
        return {path.stem: path for path in files if NAME.fullmatch(path.stem)}

    def _readable(self) -> dict[str, LabelSet]:
        """Read the label files of the directory; one that is being written, or wrong, takes none of the others away."""
        found = {}
        for name, path in self._paths().items():
            try:
                found[name] = LabelSet.from_file(path)
            except LabelError as error:
                log.warning("%s", error)
        return found


def check_name(name: str) -> None:
    """Refuse what cannot name a set.

    Raises:
        RequestError: the message says what can.
    """
    if not NAME.fullmatch(name):
        raise RequestError(f"{name!r:.60} cannot name a label set; use up to 40 letters, digits, - and _")


def check_limits(label_set: LabelSet, settings: Settings) -> LabelSet:
    """Return a label set if it is within the limits of the service.

    Raises:
        LabelError: the message names the limit.
    """
    labels = label_set.labels
    if len(labels) > settings.max_labels:
        raise LabelError(f"{len(labels)} labels are more than {settings.max_labels}; make several sets of them")
    check_prompts((*label_set.prompts, *(label.name for label in labels)), settings)
    return label_set


def check_prompts(texts: Sequence[str], settings: Settings) -> None:
    """Refuse texts that are too many or too long.

    Raises:
        LabelError: the message names the limit.
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
    except StorageError as error:  # its message names a place that is no client's business
        raise StorageError(f"{path.name} cannot be written; check --labels-dir on the service's side") from error


def _table(label: Label) -> str:
    """Return a label as a table of TOML, whose strings are those of JSON but for one character."""
    fields = [f"name = {_quoted(label.name)}", f"prompts = [{', '.join(map(_quoted, label.prompts))}]"]
    if label.threshold is not None:
        fields.append(f"threshold = {float(label.threshold)!r}")
    if label.hidden:
        fields.append("hidden = true")
    return "\n".join(["[[label]]", *fields, ""])


def _quoted(text: str) -> str:
    """Return a string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
