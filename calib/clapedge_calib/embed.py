"""Recordings to embeddings of one variant: side by side, kept as they are made, and what cannot be read is listed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from clapedge import __version__
from clapedge.arrays import Float32Array
from clapedge.engine import Engine
from clapedge.errors import AudioError
from clapedge.pipeline import RecordingOptions
from clapedge_calib.dataset import Example
from clapedge_calib.embedding_journal import EmbeddingJournal, journal_key
from clapedge_calib.progress import Progress
from clapedge_calib.workers import side_by_side


@dataclass
class Embedded:
    """What a run came to.

    Attributes:
        rows: the embedding (E,) of each example that could be read, by its place.
        failures: what was wrong with the others, by their place.
    """

    rows: dict[int, Float32Array] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)


def embed_examples(
    engine: Engine,
    examples: Sequence[Example],
    options: RecordingOptions,
    journal: EmbeddingJournal,
    *,
    progress: Progress,
) -> Embedded:
    """Embed recordings with an engine.

    Args:
        engine: loaded with one thread, since recordings share the cores between them.
        examples: the recordings.
        options: which part of a recording is read and how it becomes clips.
        journal: is asked first, and keeps what is made.
        progress: takes how far it is.
    """
    tower = engine.bundle.file("audio", engine.variant).sha256
    heard = [__version__, options, engine.bundle.manifest.front_end, engine.fusion, engine.provider_config.provider]
    done = Embedded()

    def embed(place: int) -> None:
        path = examples[place].path
        try:
            key = journal_key(path, tower, heard)
            known = journal.get(key)
            row = engine.embed_audio([path], **options)[0] if known is None else known
        except (AudioError, OSError) as error:
            done.failures[place] = str(error)
            return
        if known is None:
            journal.put(key, row)
        done.rows[place] = row

    step = f"{engine.variant}: embedding"
    for _ in side_by_side(embed, range(len(examples)), progress=progress, step=step):
        pass
    return done
