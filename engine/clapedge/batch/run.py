"""Many recordings: embed those that a store does not hold yet, then score all of them from the store.

The store is the journal of a run: a killed run goes on where its store ends. Scoring is the short part and is done
anew each time, so that a run with interruptions writes the same bytes as one without.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, cast

import numpy as np

from clapedge.audio import sources
from clapedge.batch.embedding_store import EmbeddingStore
from clapedge.batch.embedding_writer import EmbeddingWriter
from clapedge.batch.fingerprint import Stamp, fingerprint, stamp_of
from clapedge.batch.store_files import EmbeddingConfig, OptionValue
from clapedge.engine import Engine
from clapedge.errors import AudioError, LabelError
from clapedge.labels import EmbeddedLabels
from clapedge.pipeline import RecordingOptions
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import Result
from clapedge.scoring.similarity import Scorer, similarities

if TYPE_CHECKING:
    from typing_extensions import Unpack

SCORED_AT_ONCE = 4096
"""Recordings scored together: 8 MB of embeddings of 512 numbers."""


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        known: recordings that the store held already.
        embedded: recordings that were embedded in this run.
        failures: the error of each recording that cannot be used, by its name.
    """

    known: int = 0
    embedded: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Recordings that are finished with."""
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
    store: EmbeddingWriter,
    *,
    workers: int,
    **options: "Unpack[RecordingOptions]",
) -> Iterator[Progress]:
    """Embed the recordings that a store does not hold, and add them to it in their order.

    Args:
        engine: embeds them.
        files: paths.
        store: made as `embedding_config(engine, options)` says.
        workers: recordings that are embedded at once.
        **options: which part of a recording is read and how it becomes clips, see `RecordingOptions`.

    Yields:
        The same progress, brought up to date, after each recording.
    """
    progress = Progress()
    waiting: deque[tuple[str, Stamp, str]] = deque()
    with closing(engine.embed_many(_unknown(files, store, progress, waiting), workers=workers, **options)) as found:
        for recording in found:
            name, stamp, sha256 = waiting.popleft()
            if isinstance(recording, AudioError):
                progress.failures[name] = str(recording)
            else:
                store.add(name, stamp, sha256, recording)
                progress.embedded += 1
            yield progress
    yield progress


def _unknown(
    files: Iterable[str], store: EmbeddingWriter, progress: Progress, waiting: deque[tuple[str, Stamp, str]]
) -> Iterator[str]:
    """Yield the files that are to be embedded, and put what identifies them into `waiting`; count the others."""
    for file in files:
        name = sources.source_name(file)
        try:
            identity = _identify(file, name, store)
        except AudioError as error:
            progress.failures[name] = str(error)
            continue
        if identity is None:
            progress.known += 1
            continue
        waiting.append((name, *identity))
        yield file


def _identify(file: str, name: str, store: EmbeddingWriter) -> tuple[Stamp, str] | None:
    """Return the stamp and the SHA-256 of a file, or None if the store holds the embeddings of its bytes."""
    stamp = stamp_of(file)
    if stamp is not None and store.is_unchanged(name, stamp):
        return None
    stamp, sha256 = fingerprint(file)
    known = store.same_content(sha256)
    if known is None:
        return stamp, sha256
    store.add_copy(name, stamp, known)
    return None


def score_store(
    store: EmbeddingStore,
    files: Iterable[str],
    labels: EmbeddedLabels,
    logit_scale: float,
    *,
    decision: Decision | None = None,
) -> Iterator[Result]:
    """Score recordings by their kept embeddings: no audio is read.

    Args:
        store: holds them.
        files: names of recordings of the store, in the order that is wanted.
        labels: to score against.
        logit_scale: the model's, see `Manifest.logit_scale`.
        decision: whether each label is decided against its own threshold, and when a decision is unsure.

    Raises:
        LabelError: the labels were embedded by another model.
    """
    _check_space(store, labels)
    scorer = Scorer(labels, logit_scale)
    entries = (store.by_file[file] for file in files)
    while part := list(islice(entries, SCORED_AT_ONCE)):
        decided = scorer.decide(store.embeddings(part), decision)
        for entry, (scores, unsure) in zip(part, decided, strict=True):
            yield Result(
                file=entry.file,
                labels=scores,
                unsure=unsure,
                coverage=entry.coverage,
                warnings=entry.warnings,
                provenance=store.config.provenance,
                timing=None,
            )


@dataclass(frozen=True)
class Match:
    """A clip that fits words: where it lies (in seconds), and the cosine of the two embeddings."""

    file: str
    start: float
    end: float
    similarity: float


def search_store(store: EmbeddingStore, query: EmbeddedLabels, *, count: int) -> list[Match]:
    """Return the clips that fit a query best, best first; of equal ones, those that come first by name.

    Args:
        store: the kept recordings.
        query: one label.
        count: clips to return at most.

    Raises:
        LabelError: the query was embedded by another model.
    """
    _check_space(store, query)
    entries = [store.by_file[file] for file in sorted(store.by_file)]
    places = [(entry.file, start, end) for entry in entries for start, end in entry.spans]
    if not places:
        return []
    stored = store.clips()
    order = np.concatenate([entry.rows for entry in entries])
    parts = (stored[order[i : i + SCORED_AT_ONCE]] for i in range(0, len(order), SCORED_AT_ONCE))
    cosines = np.concatenate([similarities(part, query.embeddings)[:, 0] for part in parts])
    best = np.argsort(-cosines, kind="stable")[:count]
    found = ((*places[i], float(cosines[i])) for i in best.tolist())
    return [Match(file, start, end, similarity) for file, start, end, similarity in found]


def _check_space(store: EmbeddingStore, labels: EmbeddedLabels) -> None:
    """Raise if labels lie in another space than the embeddings."""
    if labels.text_tower != store.config.text_tower:
        raise LabelError(
            f"the embeddings in {store.directory} were made by {store.config.model}, the labels by another model; "
            "use the bundle with which the embeddings were made"
        )
