"""Many recordings: embed those that an archive does not hold yet, then score all of them from the archive.

The archive is the journal of a run: a killed run goes on where its archive ends. Scoring is the short part and is done
anew each time, so that a run with interruptions writes the same bytes as one without.
"""

import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, cast

import numpy as np

from clapedge.audio import sources
from clapedge.batch.embedding_store import EmbeddingConfig, EmbeddingStore, EmbeddingWriter, OptionValue, Stamp
from clapedge.engine import Engine
from clapedge.errors import AudioError, LabelError
from clapedge.labels import EmbeddedLabels
from clapedge.pipeline import RecordingOptions
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import Result
from clapedge.scoring.similarity import Scorer, similarities

if TYPE_CHECKING:
    from typing_extensions import Unpack

HASH_BYTES = 2**20

SCORED_AT_ONCE = 4096
"""Recordings scored together: 8 MB of embeddings of 512 numbers."""


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        known: recordings that the archive held already.
        embedded: recordings that were embedded in this run.
        failures: the error of each recording that cannot be used, by its name.
    """

    known: int = 0
    embedded: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Recordings that are done with."""
        return self.known + self.embedded + len(self.failures)


def embedding_config(engine: Engine, options: RecordingOptions) -> EmbeddingConfig:
    """Return how an engine makes embeddings with these options."""
    manifest = engine.bundle.manifest
    return EmbeddingConfig(
        model=manifest.model,
        weights=manifest.weights,
        variant=engine.variant,
        provider=engine.provider_config.provider,
        audio_tower=engine.bundle.file("audio", engine.variant).sha256,
        text_tower=manifest.text_tower,
        embedding_size=manifest.embedding_size,
        front_end=manifest.front_end,
        fusion=engine.fusion,
        options=cast("dict[str, OptionValue]", dict(options)),
    )


def embed_files(
    engine: Engine,
    files: Iterable[str],
    archive: EmbeddingWriter,
    *,
    workers: int,
    **options: "Unpack[RecordingOptions]",
) -> Iterator[Progress]:
    """Embed the recordings that an archive does not hold, and add them to it in their order.

    Args:
        engine: embeds them.
        files: paths.
        archive: made as `embedding_config(engine, options)` says.
        workers: recordings that are embedded at once.
        **options: which part of a recording is read and how it becomes clips, see `RecordingOptions`.

    Yields:
        The same progress, brought up to date, after each recording.
    """
    progress = Progress()
    waiting: deque[tuple[str, Stamp, str]] = deque()
    with closing(engine.embed_many(_unknown(files, archive, progress, waiting), workers=workers, **options)) as found:
        for recording in found:
            name, stamp, sha256 = waiting.popleft()
            if isinstance(recording, AudioError):
                progress.failures[name] = str(recording)
            else:
                archive.add(name, stamp, sha256, recording)
                progress.embedded += 1
            yield progress
    yield progress


def _unknown(
    files: Iterable[str], archive: EmbeddingWriter, progress: Progress, waiting: deque[tuple[str, Stamp, str]]
) -> Iterator[str]:
    """Yield the files that are to be embedded, and put what identifies them into `waiting`; count the others."""
    for file in files:
        name = sources.source_name(file)
        try:
            identity = _identify(file, name, archive)
        except AudioError as error:
            progress.failures[name] = str(error)
            continue
        if identity is None:
            progress.known += 1
            continue
        waiting.append((name, *identity))
        yield file


def score_archive(
    archive: EmbeddingStore,
    files: Iterable[str],
    labels: EmbeddedLabels,
    logit_scale: float,
    *,
    decision: Decision | None = None,
) -> Iterator[Result]:
    """Score recordings by their kept embeddings: no audio is read.

    Args:
        archive: holds them.
        files: names of recordings of the archive, in the order that is wanted.
        labels: to score against.
        logit_scale: the model's, see `Manifest.logit_scale`.
        decision: whether each label is decided against its own threshold, and when a decision is unsure.

    Raises:
        LabelError: the labels were embedded by another model.
    """
    _check_space(archive, labels)
    scorer = Scorer(labels, logit_scale)
    entries = (archive.by_file[file] for file in files)
    while part := list(islice(entries, SCORED_AT_ONCE)):
        decided = scorer.decide(archive.embeddings(part), decision)
        for entry, (scores, unsure) in zip(part, decided, strict=True):
            yield Result(
                file=entry.file,
                labels=scores,
                unsure=unsure,
                coverage=entry.coverage,
                warnings=entry.warnings,
                provenance=archive.config.provenance,
                timing=None,
            )


@dataclass(frozen=True)
class Match:
    """A clip that fits words: where it lies (in seconds), and the cosine of the two embeddings."""

    file: str
    start: float
    end: float
    similarity: float


def search_archive(archive: EmbeddingStore, query: EmbeddedLabels, *, count: int) -> list[Match]:
    """Return the clips that fit a query best, best first; of equal ones, those that come first by name.

    Args:
        archive: the kept recordings.
        query: one label.
        count: clips to return at most.

    Raises:
        LabelError: the query was embedded by another model.
    """
    _check_space(archive, query)
    entries = [archive.by_file[file] for file in sorted(archive.by_file)]
    places = [(entry.file, start, end) for entry in entries for start, end in entry.spans]
    if not places:
        return []
    stored = archive.clips()
    order = np.concatenate([entry.rows for entry in entries])
    parts = (stored[order[i : i + SCORED_AT_ONCE]] for i in range(0, len(order), SCORED_AT_ONCE))
    cosines = np.concatenate([similarities(part, query.embeddings)[:, 0] for part in parts])
    best = np.argsort(-cosines, kind="stable")[:count]
    found = ((*places[i], float(cosines[i])) for i in best.tolist())
    return [Match(file, start, end, similarity) for file, start, end, similarity in found]


def _check_space(archive: EmbeddingStore, labels: EmbeddedLabels) -> None:
    """Refuse labels that lie in another space than the embeddings."""
    if labels.text_tower != archive.config.text_tower:
        raise LabelError(
            f"the embeddings in {archive.directory} were made by {archive.config.model}, the labels by another model; "
            "use the bundle with which the embeddings were made"
        )


def fingerprint(file: str) -> tuple[Stamp, str]:
    """Return the stamp of a file and the SHA-256 of its bytes.

    Raises:
        AudioError: it cannot be read.
    """
    stamp = stamp_of(file)
    digest = hashlib.sha256()
    with sources.open_source(file) as view:
        for offset in range(0, view.size, HASH_BYTES):
            digest.update(view.peek(offset, HASH_BYTES))
        if stamp is None or view.failure is not None:
            raise AudioError(f"{sources.shown_name(file)} cannot be read to its end; copy it again")
    return stamp, digest.hexdigest()


def stamp_of(file: str) -> Stamp | None:
    """Return the stamp of a file, or None where opening it will say what is wrong.

    Raises:
        AudioError: it is a device or a pipe.
    """
    try:
        status = os.stat(file)  # noqa: PTH116 - called for every file of a large archive
    except (OSError, ValueError):
        return None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise AudioError(f"{sources.shown_name(file)} is no regular file; score it with: clapedge score")
    return Stamp(status.st_size, status.st_mtime_ns)


def _identify(file: str, name: str, archive: EmbeddingWriter) -> tuple[Stamp, str] | None:
    """Return the stamp and the SHA-256 of a file, or None if the archive holds the embeddings of its bytes."""
    stamp = stamp_of(file)
    if stamp is not None and archive.unchanged(name, stamp):
        return None
    stamp, sha256 = fingerprint(file)
    known = archive.same_content(sha256)
    if known is None:
        return stamp, sha256
    archive.add_copy(name, stamp, known)
    return None
