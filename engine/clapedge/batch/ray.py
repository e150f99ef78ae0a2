"""The same batch on a Ray cluster (extra `ray`): actors embed, one engine each, and the driver keeps what they send.

Recordings and the bundle lie under the same paths on every node. An actor that dies is replaced, and what it was doing
is done again; an embedding depends on its recording alone, so no row is lost, doubled or different.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np

from clapedge.audio import sources
from clapedge.batch.embedding_writer import EmbeddingWriter
from clapedge.batch.fingerprint import Stamp, fingerprint, stamp_of
from clapedge.batch.run import Progress, embedding_config
from clapedge.batch.store_files import EmbeddingConfig
from clapedge.engine import Engine
from clapedge.errors import AudioError, MissingExtraError
from clapedge.features.fusion import Fusion
from clapedge.model.front_end_graph import FrontendWish
from clapedge.model.precision import PrecisionWish
from clapedge.model.providers import ProviderWish
from clapedge.pipeline import RecordingOptions
from clapedge.scoring.result import UNTIMED, Coverage, RecordingEmbeddings

FILES_AT_ONCE = 8
"""Recordings that an actor takes at once: what is done again when it dies."""


class Actors(msgspec.Struct, frozen=True, kw_only=True):
    """What an actor is, and how many there are.

    Attributes:
        bundle: directory of the bundle, the same on every node.
        provider: where an actor runs its tower.
        precision: variant of the tower.
        fusion: see `Engine.load`.
        options: which part of a recording is read and how it becomes clips.
        count: actors.
        cpus: processor cores of each; operators of the tower use so many threads.
        gpus: graphics processors of each; a fraction shares one.
        self_check: see `Engine.load`.
        frontend: what makes log-mels.
    """

    bundle: str
    provider: ProviderWish
    precision: PrecisionWish
    fusion: Fusion
    options: RecordingOptions
    count: int
    cpus: float = 1.0
    gpus: float = 0.0
    self_check: bool = True
    frontend: FrontendWish = "auto"

    def load(self) -> Engine:
        """Load the engine of an actor."""
        return Engine.load(
            self.bundle,
            provider=self.provider,
            precision=self.precision,
            fusion=self.fusion,
            threads=max(1, int(self.cpus)),
            self_check=self.self_check,
            frontend=self.frontend,
        )

    def like(self, config: EmbeddingConfig) -> "Actors":
        """Return actors that all make embeddings in the same way, wherever they run."""
        wishes = msgspec.to_builtins(config)
        frontend = wishes.get("frontend", "numpy")
        return msgspec.structs.replace(
            self, provider=wishes["provider"], precision=wishes["variant"], frontend=frontend
        )

    def config(self) -> EmbeddingConfig:
        """Return how such an actor makes embeddings, as the first one on the cluster that loads its engine does."""
        ray = connect()
        ask = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus)(_config)
        return msgspec.json.decode(ray.get(ask.remote(msgspec.json.encode(self))), type=EmbeddingConfig)


class _Sent(msgspec.Struct):
    """What an actor sends of one recording: its error, or its embeddings."""

    error: str | None = None
    stamp: Stamp = Stamp(0, 0)
    sha256: str = ""
    clips: bytes = b""
    spans: tuple[tuple[float, float], ...] = ()
    coverage: Coverage = Coverage(0.0, 0.0, 0.0)
    warnings: tuple[str, ...] = ()


class EmbeddingActor:
    """Embeds recordings."""

    def __init__(self, actors: bytes) -> None:
        """Load the engine, once in the life of the actor."""
        described = msgspec.json.decode(actors, type=Actors)
        self._engine = described.load()
        self._options = described.options

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Embed a batch of paths."""
        return {"sent": [msgspec.msgpack.encode(self._embed(os.fsdecode(path))) for path in batch["item"]]}

    def _embed(self, file: str) -> _Sent:
        """Embed one recording."""
        try:
            stamp, sha256 = fingerprint(file)
            recording = self._engine.embed_stream(file, **self._options).collect()
        except AudioError as error:
            return _Sent(str(error))
        clips = recording.clips.astype("<f4").tobytes()
        return _Sent(None, stamp, sha256, clips, recording.spans, recording.coverage, recording.warnings)


def embed_files(files: Iterable[str], store: EmbeddingWriter, actors: Actors) -> Iterator[Progress]:
    """Embed the recordings that a store does not hold, and add them to it in their order.

    Files are compared with the store by path, size and time alone: it is the actors that read them.

    Args:
        files: paths, the same on every node.
        store: made as `actors.config()` says.
        actors: embed them.

    Yields:
        The same progress, brought up to date, after each recording.
    """
    progress = Progress()
    wanted = []
    for file in files:
        if _is_kept(file, store):
            progress.known += 1
        else:
            wanted.append(file)
    size = store.config.embedding_size
    for file, sent in zip(wanted, _sent(wanted, actors), strict=True):
        name = sources.source_name(file)
        if sent.error is not None:
            progress.failures[name] = sent.error
        else:
            clips = np.frombuffer(sent.clips, "<f4").reshape(-1, size)
            recording = RecordingEmbeddings(name, clips, sent.spans, sent.coverage, sent.warnings, UNTIMED)
            store.add(name, sent.stamp, sent.sha256, recording)
            progress.embedded += 1
        yield progress
    yield progress


def connect() -> Any:  # noqa: ANN401 - Ray is an extra, and its types with it
    """Connect to the cluster that `RAY_ADDRESS` names, else start one on this machine; return Ray.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # it calls Ray Data's own way of passing arguments to actors an error, in every run
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("a batch on Ray", "ray") from error
    if not ray.is_initialized():
        own: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **own)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _is_kept(file: str, store: EmbeddingWriter) -> bool:
    """Return whether a store holds a file as it is; of one that cannot be used, an actor will report why."""
    try:
        stamp = stamp_of(file)
    except AudioError:
        return False
    return stamp is not None and store.is_unchanged(sources.source_name(file), stamp)


def _sent(files: list[str], actors: Actors) -> Iterator[_Sent]:
    """Yield what the actors send of each file, in order."""
    if not files:
        return
    ray = connect()
    blocks = -(-len(files) // FILES_AT_ONCE)
    dataset = ray.data.from_items([os.fsencode(file) for file in files], override_num_blocks=blocks).map_batches(
        EmbeddingActor,
        batch_size=FILES_AT_ONCE,
        compute=ray.data.ActorPoolStrategy(size=actors.count),
        num_cpus=actors.cpus,
        num_gpus=actors.gpus,
        fn_constructor_args=(msgspec.json.encode(actors),),
    )
    decoder = msgspec.msgpack.Decoder(_Sent)
    for row in dataset.iter_rows():
        yield decoder.decode(row["sent"])


def _config(actors: bytes) -> bytes:
    """Load an actor's engine and return how it makes embeddings."""
    described = msgspec.json.decode(actors, type=Actors)
    with described.load() as engine:
        return msgspec.json.encode(embedding_config(engine, described.options))
