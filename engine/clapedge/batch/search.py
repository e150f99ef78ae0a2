"""Search of kept embeddings by words, by sounds, and by both; away from sounds that are not wanted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clapedge.arrays import Float32Array, Float64Array
from clapedge.batch.embedding_store import EmbeddingStore
from clapedge.batch.run import SCORED_AT_ONCE
from clapedge.errors import LabelError, UsageError
from clapedge.scoring.similarity import similarities

SAME_COSINE = 0.999
"""Cosine from which a clip and a sound are nearly the same recording: another format or level of it, the same place."""


@dataclass(frozen=True)
class LikeMatch:
    """A clip that is like what is wanted.

    Attributes:
        file: its recording.
        start: where it begins, in seconds.
        end: where it ends.
        similarity: mean cosine with what is wanted.
        duplicate: whether it is nearly the same recording as a sound that is wanted.
    """

    file: str
    start: float
    end: float
    similarity: float
    duplicate: bool


def search_like(
    store: EmbeddingStore,
    wanted: Float32Array,
    *,
    unwanted: Float32Array | None = None,
    sounds: Sequence[int] = (),
    text_tower: str | None,
    count: int,
) -> list[LikeMatch]:
    """Return the clips that are most like what is wanted, best first; of equal ones, those that come first by name.

    Words and sounds have cosines of different sizes: each query is measured in standard deviations over the store.

    Args:
        store: the kept recordings.
        wanted: (N, E) unit embeddings of words or sounds.
        unwanted: (M, E) likewise, which count against a clip as much as all that is wanted counts for it.
        sounds: which rows of `wanted` are sounds.
        text_tower: of the bundle that embedded them.
        count: clips to return at most.

    Raises:
        LabelError: the queries were embedded by another model.
        UsageError: nothing is wanted.
    """
    if not len(wanted):
        raise UsageError("nothing is wanted; give words, or a sound: like=FILE")
    if text_tower != store.config.text_tower:
        raise LabelError(f"the embeddings in {store.directory} were made by {store.config.model}; use its bundle")
    entries = [store.by_file[file] for file in sorted(store.by_file)]
    places = [(entry.file, start, end) for entry in entries for start, end in entry.spans]
    stored, order = store.clips(), np.concatenate([entry.rows for entry in entries])
    parts = [stored[order[first : first + SCORED_AT_ONCE]] for first in range(0, len(order), SCORED_AT_ONCE)]
    cosines = np.concatenate([similarities(part, wanted) for part in parts])
    ranking = _standard(cosines)
    if unwanted is not None and len(unwanted):
        ranking = ranking - _standard(np.concatenate([similarities(part, unwanted) for part in parts]))
    same: list[bool] = np.asarray((cosines[:, list(sounds)] >= SAME_COSINE).any(axis=1)).tolist()
    best = np.argsort(-ranking, kind="stable")[:count].tolist()
    found = ((*places[at], float(cosines[at].mean()), same[at]) for at in best)
    return [LikeMatch(file, start, end, mean, duplicate) for file, start, end, mean, duplicate in found]


def _standard(cosines: Float32Array) -> Float64Array:
    """Return the mean (N,) over queries of cosines (N, queries), in standard deviations of each query."""
    values = cosines.astype(np.float64)
    spread = np.maximum(values.std(axis=0), np.finfo(np.float32).eps)
    return np.asarray(((values - values.mean(axis=0)) / spread).mean(axis=1))
