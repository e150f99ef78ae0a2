"""Which bundle is served: found, verified, warmed and swapped in; and again when another one appears."""

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from clapedge.errors import BundleDamagedError, BundleNotFoundError, ClapEdgeError
from clapedge.model.bundle import MANIFEST_NAME, Bundle, default_directory
from clapedge.serve.models import Model, load
from clapedge.serve.service import Named, Service

log = logging.getLogger("clapedge.serve")

Fingerprint: TypeAlias = "tuple[tuple[str, int, int, int], ...]"
"""Path, inode, bytes and time of every file of a bundle: reading them all every few seconds would be a burden."""


@dataclass(frozen=True)
class Found:
    """A bundle on disk.

    Attributes:
        name: of its directory, or of the symlink that leads to it.
        directory: where it really lies.
        fingerprint: what its files looked like.
    """

    name: str
    directory: Path
    fingerprint: Fingerprint


class Watcher:
    """Keeps a service on the newest good bundle of a place."""

    def __init__(self, service: Service) -> None:
        """Watch the place of a service's settings; `look` brings the first model."""
        self._service = service
        self._place = service.settings.bundle or default_directory()
        self._served: Found | None = None
        self._seen: tuple[Found, ...] = ()
        self._refused: dict[Found, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="clapedge-watch", daemon=True)

    def begin(self) -> None:
        """Bring the first model, and look for others from then on.

        Raises:
            ClapEdgeError: no bundle can be used.
        """
        self._seen = self.found()
        self.look()
        if self._served is None:
            if not self._seen:
                Bundle.open(self._place)  # which says what is wrong with it
                raise BundleNotFoundError(f"{self._place} holds no bundle; make one with: clapedge export")
            raise BundleDamagedError("; ".join(self._refused.values()))
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def found(self) -> tuple[Found, ...]:
        """Return the bundles of the place, the newest first: the one that it is, or those in it, by name."""
        try:
            if (self._place / MANIFEST_NAME).exists():
                return (_found(self._place),)
            inside = [path for path in self._place.iterdir() if (path / MANIFEST_NAME).exists()]
            return tuple(_found(path) for path in sorted(inside, key=_by_number, reverse=True))
        except OSError:
            return ()  # it is being replaced; the next look sees it whole

    def look(self) -> None:
        """Swap in the newest good bundle, if it is another one than the one that is served.

        A bundle is tried when two looks have seen it the same: until then it is being copied.
        """
        before, self._seen = self._seen, self.found()
        self._refused = {found: fault for found, fault in self._refused.items() if found in self._seen}
        for found in self._seen:
            if found == self._served or (found not in before and found not in self._refused):
                break
            if found in self._refused:
                continue
            try:
                self._serve(found)
                break
            except (ClapEdgeError, OSError) as error:
                self._refuse(found, str(error))
        self._tell()

    def _serve(self, found: Found) -> None:
        """Verify, load and warm a bundle, and swap it in.

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
        facts = model.facts
        log.info("serving %s: %s %s on %s", found.name, facts.model, facts.variant, facts.provider)

    def _warm_labels(self, model: Model) -> None:
        """Embed the label set for requests that name none, which a model has to be able to do."""
        name = self._service.label_store.default
        if name is not None:
            self._service.embed_labels(model, Named(name))

    def _refuse(self, found: Found, fault: str) -> None:
        """Remember and say why a bundle is not served."""
        self._refused[found] = fault
        self._service.metrics.swaps.labels("refused").inc()
        kept = f"; {self._served.name} serves on" if self._served else ""
        log.error("refused %s: %s%s", found.name, fault, kept)

    def _tell(self) -> None:
        """Let the service know what was refused, for `/readyz` and `/v1/models`."""
        models = self._service.models
        models.others = {found.name: self._refused.get(found) for found in self._seen if found != self._served}
        refused = [f"{found.name}: {self._refused[found]}" for found in self._seen if found in self._refused]
        models.fault = "; ".join(refused) or None

    def _work(self) -> None:
        """Look again and again; what goes wrong in a look is said, and does not end the watch."""
        with ThreadPoolExecutor(1, thread_name_prefix="clapedge-look") as looks:
            while not self._ended.wait(self._service.settings.watch_seconds):
                error = looks.submit(self.look).exception()
                if error is not None:
                    log.error("the bundles could not be looked at", exc_info=error)


def _found(path: Path) -> Found:
    """Describe a bundle on disk.

    Raises:
        OSError: it vanished meanwhile.
    """
    directory = path.resolve(strict=True)
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    facts = [(file, file.stat()) for file in files]
    return Found(
        path.absolute().name,
        directory,
        tuple((str(file.relative_to(directory)), fact.st_ino, fact.st_size, fact.st_mtime_ns) for file, fact in facts),
    )


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Return the key by which names sort as people count: v9 before v10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
