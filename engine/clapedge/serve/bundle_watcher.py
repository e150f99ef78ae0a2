"""Finds the bundle to serve, verifies and loads it, and replaces it when another one appears."""

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from clapedge.errors import BundleDamagedError, BundleNotFoundError, ClapEdgeError
from clapedge.model.bundle import MANIFEST_NAME, Bundle, locate
from clapedge.serve.models import Model, load
from clapedge.serve.service import LabelSetName, Service
from clapedge.terminal import record_name

log = logging.getLogger("clapedge.serve")

Fingerprint: TypeAlias = "tuple[tuple[str, int, int, int], ...]"
"""Path, inode, bytes and time of every file of a bundle: hashing the files every few seconds would be a burden."""


@dataclass(frozen=True)
class FoundBundle:
    """A bundle on disk.

    Attributes:
        name: name of its directory, or of the symlink to it.
        directory: the directory itself.
        fingerprint: the state of its files.
    """

    name: str
    directory: Path
    fingerprint: Fingerprint


class BundleWatcher:
    """Keeps a service on the newest usable bundle of a directory."""

    def __init__(self, service: Service) -> None:
        """Watch the directory of a service's settings; `begin` loads the first model."""
        self._service = service
        self._place = locate(service.settings.bundle)
        self._served: FoundBundle | None = None
        self._seen: tuple[FoundBundle, ...] = ()
        self._refused: dict[FoundBundle, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="clapedge-watch", daemon=True)

    def begin(self) -> None:
        """Load the first model, and look for others from then on.

        Raises:
            ClapEdgeError: no bundle can be used.
        """
        self._seen = self._find()
        self.look()
        if self._served is None:
            if not self._seen:
                Bundle.open(self._place)  # which raises the narrower error, if the directory is a broken bundle
                raise BundleNotFoundError(f"{self._place} holds no bundle; make one with: clapedge export")
            raise BundleDamagedError("; ".join(self._refused.values()))
        self._thread.start()

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Serve the newest usable bundle, if it is not the one that is served.

        A bundle is tried when two looks have seen it unchanged: until then it is being copied.
        """
        before, self._seen = self._seen, self._find()
        self._refused = {found: fault for found, fault in self._refused.items() if found in self._seen}
        for found in self._seen:
            if found in self._refused:
                continue
            if found == self._served or found not in before or self._try(found):
                break
        models = self._service.models
        models.others = {found.name: self._refused.get(found) for found in self._seen if found != self._served}
        refused = [f"{found.name}: {self._refused[found]}" for found in self._seen if found in self._refused]
        models.fault = "; ".join(refused) or None

    def _find(self) -> tuple[FoundBundle, ...]:
        """Return the bundles of the directory, the newest by name first; only itself if it is a bundle."""
        try:
            if (self._place / MANIFEST_NAME).exists():
                return (_describe(self._place),)
            inside = [path for path in self._place.iterdir() if (path / MANIFEST_NAME).exists()]
            return tuple(_describe(path) for path in sorted(inside, key=_natural_key, reverse=True))
        except OSError:
            return ()  # it is being replaced; the next look sees all of it

    def _try(self, found: FoundBundle) -> bool:
        """Serve a bundle, and return whether it can be used; log why not."""
        try:
            self._serve(found)
        except (ClapEdgeError, OSError) as error:
            fault = str(error)
        else:
            return True
        self._refused[found] = fault
        self._service.metrics.swaps.labels("refused").inc()
        kept = f"; {self._served.name} serves on" if self._served else ""
        log.error("refused %s: %s%s", found.name, fault, kept)
        return False

    def _serve(self, found: FoundBundle) -> None:
        """Verify, load and warm a bundle, and make it the current one.

        Raises:
            ClapEdgeError: it cannot be used.
        """
        faults = Bundle.open(found.directory).faults()
        if faults:
            raise BundleDamagedError(f"{'; '.join(faults)}; copy the bundle again, or export it again")
        service = self._service
        model = load(str(found.directory), found.name, service.settings, service.metrics)
        try:
            self._warm_labels(model)
        except (ClapEdgeError, OSError):
            model.close()
            raise
        service.models.swap(model)
        service.metrics.swaps.labels("served").inc()
        self._served = found
        info = model.info
        log.info("serving %s: %s %s on %s", found.name, info.model, info.variant, info.provider)

    def _warm_labels(self, model: Model) -> None:
        """Embed the default label set, which a model has to be able to do."""
        name = self._service.label_store.default
        if name is not None:
            self._service.embed_labels(model, LabelSetName(name))

    def _watch(self) -> None:
        """Look every few seconds; an unexpected error is logged, and does not end the watch."""
        with ThreadPoolExecutor(1, thread_name_prefix="clapedge-look") as looks:
            while not self._ended.wait(self._service.settings.watch_seconds):
                error = looks.submit(self.look).exception()
                if error is not None:
                    log.error("the bundles could not be looked at", exc_info=error)


def _describe(path: Path) -> FoundBundle:
    """Return a bundle on disk.

    Raises:
        OSError: it vanished meanwhile.
    """
    directory = path.resolve(strict=True)
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    stats = [(str(file.relative_to(directory)), file.stat()) for file in files]
    fingerprint = tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return FoundBundle(record_name(path.absolute().name), directory, fingerprint)


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Return the key that sorts names with numbers as people count: v9 before v10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
