"""Recordings to embeddings of one variant, kept in a store as they are made, so that an interrupted run can resume."""

import hashlib
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec

from clapedge import __version__
from clapedge.arrays import Float32Array
from clapedge.atomic_file import cannot_be_written
from clapedge.audio import source_name
from clapedge.batch.embedding_writer import appending
from clapedge.batch.run import embed_files, embedding_config
from clapedge.batch.store_files import EmbeddingConfig
from clapedge.engine import Engine
from clapedge.errors import AudioError, ClapEdgeWarning
from clapedge.model.cpu import usable_workers
from clapedge.pipeline import RecordingOptions
from clapedge_calib.dataset import Example
from clapedge_calib.progress import Progress, Steps, gather

_Embedded: TypeAlias = tuple[Float32Array, tuple[str, ...]] | str
"""The embedding (E,) of a recording and the warnings about it, or the error of one that cannot be read."""


@dataclass(frozen=True, eq=False)
class EmbeddedExamples:
    """The embeddings of a data set.

    Attributes:
        rows: the embedding (E,) of each example that could be read, by its place.
        failures: the error of each other one, by its place.
    """

    rows: dict[int, Float32Array]
    failures: dict[int, str]


def embed_examples(
    engine: Engine, examples: Sequence[Example], options: RecordingOptions, *, work: Path | None = None
) -> Steps[EmbeddedExamples]:
    """Embed recordings with an engine.

    Args:
        engine: loaded with one thread, since recordings share the cores.
        examples: the recordings.
        options: which part of a recording is read and how it becomes clips.
        work: directory with a store for each variant and options, which are used and added to; None keeps nothing.

    Raises:
        StorageError: the directory cannot be written to.
    """
    files = [str(example.path) for example in examples]
    if work is None:
        found = yield from _embed(engine, files, options)
    else:
        found = yield from _embed_into(work, engine, files, options)
    for file, each in zip(files, found, strict=True):
        for sentence in () if isinstance(each, str) else each[1]:
            warnings.warn(f"{file}: {sentence}", ClapEdgeWarning, stacklevel=2)
    return EmbeddedExamples(
        rows={place: each[0] for place, each in enumerate(found) if not isinstance(each, str)},
        failures={place: each for place, each in enumerate(found) if isinstance(each, str)},
    )


def _embed(engine: Engine, files: Sequence[str], options: RecordingOptions) -> Steps[list[_Embedded]]:
    """Embed recordings and keep nothing on disk."""
    with closing(engine.embed_many(files, workers=usable_workers(), **options)) as recordings:
        found = yield from gather(recordings, _step(engine), len(files))
    return [str(each) if isinstance(each, AudioError) else (each.embedding, each.warnings) for each in found]


def _embed_into(work: Path, engine: Engine, files: Sequence[str], options: RecordingOptions) -> Steps[list[_Embedded]]:
    """Embed the recordings that a store in `work` does not hold yet."""
    config = embedding_config(engine, options)
    with appending(_store_directory(work, config), config) as store:
        for progress in embed_files(engine, files, store, workers=usable_workers(), **options):
            yield Progress(_step(engine), progress.done, len(files), progress.known)
    names = [source_name(file) for file in files]
    entries = [store.by_file[name] for name in names if name not in progress.failures]
    rows = zip(store.embeddings(entries), (entry.warnings for entry in entries), strict=True) if entries else iter(())
    return [progress.failures.get(name) or next(rows) for name in names]


def _step(engine: Engine) -> str:
    """Return what the progress is called."""
    return f"{engine.variant}: embedding"


def _store_directory(work: Path, config: EmbeddingConfig) -> Path:
    """Return where the embeddings of a variant are kept; those made in another way, or by another version, are not."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_written(work, error) from error
    made_by = hashlib.sha256(f"{__version__} {msgspec.json.encode(config)!r}".encode())
    return work / f"{config.variant}-{made_by.hexdigest()[:12]}"
