"""Many recordings: embed those that a store does not hold yet, then score all of them from the store.

The store is the journal of a run: a killed run goes on where its store ends. Scoring is the short part and is done
anew each time, so that a run with interruptions writes the same bytes as one without.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, cast

import msgspec
import numpy as np

from clapedge.arrays import BoolArray, Float32Array
from clapedge.audio import sources
from clapedge.batch.embedding_store import EmbeddingStore
from clapedge.batch.embedding_writer import EmbeddingWriter
from clapedge.batch.fingerprint import Stamp, fingerprint, stamp_of
from clapedge.batch.store_files import EmbeddingConfig, Entry, OptionValue
from clapedge.engine import Engine
from clapedge.errors import AudioError, LabelError, UsageError
from clapedge.events.timeline import Timeline
from clapedge.labels import EmbeddedLabels
from clapedge.model.space import words_of
from clapedge.pipeline import RecordingOptions, split_options
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import Coverage, Result
from clapedge.scoring.similarity import Scorer, similarities

if TYPE_CHECKING:
    from typing_extensions import Unpack

SCORED_AT_ONCE = 4096
"""Embeddings scored together: 8 MB of 512 numbers each."""

_Rows: TypeAlias = tuple[list[tuple[Entry, Coverage]], Float32Array]
"""Recordings, or clips of them, with what they cover, and an embedding (n, E) of each."""


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
    unset = {("length", None), ("strips", None)}  # as older stores, which do not know them
    given = {name: value for name, value in options.items() if (name, value) not in unset}
    _, clip_options = split_options(options, fusion=engine.fusion)
    return EmbeddingConfig(
        model=manifest.model,
        weights=manifest.weights,
        variant=engine.variant,
        provider=engine.provider_config.provider,
        audio_tower=engine.towers.digest(clip_options.strips),
        text_tower=manifest.text_tower,
        embedding_size=manifest.embedding_size,
        front_end=manifest.front_end,
        fusion=engine.fusion,
        options=cast("dict[str, OptionValue]", given),
        frontend="device" if engine.clip_maker.frontend(clip_options) == "device" else msgspec.UNSET,
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
    scorer: Scorer,
    *,
    decision: Decision | None = None,
    per_clip: bool = False,
) -> Iterator[Result]:
    """Score recordings by their kept embeddings: no audio is read.

    Args:
        store: holds them.
        files: names of recordings of the store, in the order that is wanted.
        scorer: the labels.
        decision: whether each label is decided against its own threshold, and when a decision is unsure.
        per_clip: whether each clip of a recording has a result, in their order, instead of their mean.

    Raises:
        LabelError: the labels were embedded by another model.
    """
    _check_space(store, scorer.labels)
    for parts, embeddings in (_clip_rows if per_clip else _mean_rows)(store, files):
        decided = scorer.decide(embeddings, decision)
        for (entry, coverage), one in zip(parts, decided, strict=True):
            yield Result(
                **one.fields,
                file=entry.file,
                coverage=coverage,
                warnings=entry.warnings,
                provenance=store.config.provenance,
                timing=None,
            )


def _mean_rows(store: EmbeddingStore, files: Iterable[str]) -> Iterator[_Rows]:
    """Yield recordings with what they cover and one embedding each, many at a time."""
    entries = (store.by_file[file] for file in files)
    while part := list(islice(entries, SCORED_AT_ONCE)):
        yield [(entry, entry.coverage) for entry in part], store.embeddings(part)


def _clip_rows(store: EmbeddingStore, files: Iterable[str]) -> Iterator[_Rows]:
    """Yield the clips of recordings with what they cover and their embeddings, many at a time."""
    stored = store.clips()
    for entry in (store.by_file[file] for file in files):
        for first in range(0, len(entry.spans), SCORED_AT_ONCE):
            spans = entry.spans[first : first + SCORED_AT_ONCE]
            parts = [(entry, Coverage(round(start, 3), round(end, 3), entry.of)) for start, end in spans]
            yield parts, stored[entry.row + first : entry.row + first + len(spans)]


def timelines(store: EmbeddingStore, files: Iterable[str], scorer: Scorer) -> Iterator[Timeline]:
    """Yield the timelines of recordings by their kept windows, as `Engine.timeline` gives them: no audio is read.

    Args:
        store: holds sliding windows.
        files: names of recordings of the store, in the order that is wanted.
        scorer: the labels.

    Raises:
        LabelError: the labels were embedded by another model.
        UsageError: the store holds something other than windows without gaps between them.
    """
    _check_space(store, scorer.labels)
    options, clip = store.config.options, store.config.front_end.clip_seconds
    window, hop = float(options.get("length") or clip), float(options.get("hop") or clip)
    if options.get("window") != "slide" or hop > window:
        raise UsageError(
            f"{store.directory} holds {options.get('window', 'first')} clips every {hop:g} s, which make no timeline; "
            'keep windows: embed with window="slide", length=2 and hop=1'
        )
    for recording in store.recordings(files):
        yield Timeline.from_windows(recording, scorer, window=window, provenance=store.config.provenance)


@dataclass(frozen=True)
class Match:
    """What fits words: where it lies (in seconds), and the cosine of its best clip's embedding and theirs."""

    file: str
    start: float
    end: float
    similarity: float


def search_store(store: EmbeddingStore, query: EmbeddedLabels, *, count: int) -> list[Match]:
    """Return what fits a query best, best first; of equal matches, those that come first by name.

    Clips that overlap are one match, see `_extent`; others that overlap a match are left out.

    Args:
        store: the kept recordings.
        query: one label.
        count: matches to return at most.

    Raises:
        LabelError: the query was embedded by another model.
    """
    _check_space(store, query)
    entries = [store.by_file[file] for file in sorted(store.by_file)]
    if not entries:
        return []
    stored = store.clips()
    order = np.concatenate([entry.rows for entry in entries])
    parts = (stored[order[i : i + SCORED_AT_ONCE]] for i in range(0, len(order), SCORED_AT_ONCE))
    cosines = np.concatenate([similarities(part, query.embeddings)[:, 0] for part in parts])
    firsts = np.cumsum([0, *(len(entry.spans) for entry in entries)])
    free = np.ones(len(order), np.bool_)
    matches: list[Match] = []
    for best in np.argsort(-cosines, kind="stable"):
        if free[best]:
            if len(matches) == count:
                break
            index = int(np.searchsorted(firsts, best, side="right")) - 1
            own, spans = slice(firsts[index], firsts[index + 1]), entries[index].spans
            first, last = _extent(spans, cosines[own], free[own], int(best - firsts[index]))
            start, end = spans[first][0], spans[last][1]
            matches.append(Match(entries[index].file, round(start, 3), round(end, 3), float(cosines[best])))
            while first >= 0 and spans[first][1] > start:
                first -= 1
            while last < len(spans) and spans[last][0] < end:
                last += 1
            free[own][first + 1 : last] = False
    return matches


def _extent(spans: Sequence[tuple[float, float]], cosines: Float32Array, free: BoolArray, best: int) -> tuple[int, int]:
    """Return the first and the last of the clips that are one match with the best one.

    They overlap one another, belong to no better match, and reach at least half-way from the median of the recording
    to the best one, which is where a peak's width is usually taken.
    """
    level = (cosines[best] + np.median(cosines)) / 2
    belongs = free & (cosines >= level)
    first = last = best
    while first > 0 and belongs[first - 1] and spans[first - 1][1] > spans[first][0]:
        first -= 1
    while last + 1 < len(spans) and belongs[last + 1] and spans[last + 1][0] < spans[last][1]:
        last += 1
    return first, last


def _check_space(store: EmbeddingStore, labels: EmbeddedLabels) -> None:
    """Raise if labels lie in another space than the embeddings."""
    if labels.space != words_of(store.config.space):
        raise LabelError(
            f"the embeddings in {store.directory} were made by {store.config.model} (space {store.config.space}), the "
            f"labels by another model (space {labels.space}); use the bundle with which the embeddings were made"
        )
