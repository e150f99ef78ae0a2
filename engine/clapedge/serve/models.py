"""The model that requests use, which another one may replace at any time."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from clapedge.audio import SAMPLE_RATE
from clapedge.engine import Engine
from clapedge.errors import ClapEdgeError
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.model.gpu_tower import GpuAudioTower
from clapedge.pipeline import Embedder
from clapedge.serve import heap
from clapedge.serve.errors import NotReadyError
from clapedge.serve.metrics import Metrics
from clapedge.serve.settings import Settings

WARM_SECONDS = 1
"""Length of the recording that warms a tower: any fills one clip."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model is.

    Attributes:
        bundle: name of its directory.
        model: model id.
        revision: revision of the checkpoint.
        licence: of the weights.
        weights: `pretrained`, `random` or `demo`.
        variant: precision of the audio tower.
        provider: where it runs.
        variants: precisions that the bundle holds.
        label_sets: names of the label sets that it holds.
        reads_words: whether it has a text tower, so that labels may be any words.
        embedding_size: numbers in an embedding.
        space: name of the embedding space of clips, see `clapedge.model.space`.
    """

    bundle: str
    model: str
    revision: str | None
    licence: str
    weights: str
    variant: str
    provider: str
    variants: tuple[str, ...]
    label_sets: tuple[str, ...]
    reads_words: bool
    embedding_size: int
    space: str


class Model:
    """A loaded, warm engine. After it was replaced, it is closed with the end of the last request that uses it."""

    def __init__(self, name: str, engine: Engine, metrics: Metrics) -> None:
        """Warm an engine: open every session that requests may need, and run each once.

        Args:
            name: name of the bundle.
            engine: the engine, freshly loaded.
            metrics: counts batches.
        """
        self.name, self.engine = name, engine
        bundle = engine.bundle
        self.stored: Mapping[str, EmbeddedLabels] = {name: engine.stored_labels(name) for name in bundle.label_sets}
        self.reads_words = bool(bundle.files("text"))
        if isinstance(engine.audio_tower, GpuAudioTower):
            engine.audio_tower.shared.observe = metrics.batches.observe
        self.uses = 0
        self.retired = False
        try:
            self._warm()
        except (ClapEdgeError, OSError):
            self.close()  # its threads would keep it, and memory of the GPU, alive
            raise

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        manifest = self.engine.bundle.manifest
        return ModelInfo(
            bundle=self.name,
            model=manifest.model,
            revision=manifest.revision,
            licence=manifest.licence,
            weights=manifest.weights,
            variant=self.engine.variant,
            provider=self.engine.provider_config.provider,
            variants=tuple(self.engine.bundle.variants("audio")),
            label_sets=tuple(self.stored),
            reads_words=self.reads_words,
            embedding_size=manifest.embedding_size,
            space=self.engine.provenance.space,
        )

    def tower(self, *, alone: bool) -> Embedder:
        """Return what embeds the next clips of a request.

        On a GPU, requests share runs, and a single one uses the same tower, so that no bit depends on others. On the
        CPU, a single request uses every core, and several use one core each, see `Engine.shared_tower`.

        Args:
            alone: whether no other request is in progress.
        """
        alone = alone and not self.engine.provider_config.on_gpu
        return self.engine.audio_tower if alone else self.engine.shared_tower()

    def close(self) -> None:
        """Release the sessions, and their memory."""
        self.engine.close()
        heap.give_back()

    def _warm(self) -> None:
        """Run every session once."""
        silence = np.zeros(WARM_SECONDS * SAMPLE_RATE, np.float32)
        silence[::480] = 0.1  # ticks, so that there is no warning of silence
        for alone in (True, False):
            self.engine.embed_stream(silence, tower=self.tower(alone=alone)).collect()
        if self.reads_words:
            self.engine.embed_labels(LabelSet.of(["a sound"]))


class Models:
    """The current model.

    Attributes:
        fault: why newer bundles were refused, if any were.
        others: bundles beside the current one, and why each was refused, if it was.
    """

    def __init__(self) -> None:
        """Begin without a model."""
        self._lock = threading.Lock()
        self._model: Model | None = None
        self.fault: str | None = None
        self.others: Mapping[str, str | None] = {}

    @property
    def ready(self) -> bool:
        """Whether there is a model."""
        return self._model is not None

    @contextmanager
    def using(self) -> Iterator[Model]:
        """Yield the current model, and keep it open until the block ends.

        Raises:
            NotReadyError: there is none.
        """
        with self._lock:
            model = self._model
            if model is None:
                raise NotReadyError("no bundle is loaded; look at /readyz and the log of the service")
            model.uses += 1
        try:
            yield model
        finally:
            with self._lock:
                model.uses -= 1
                unused = model.retired and not model.uses
            if unused:
                model.close()

    def swap(self, model: Model | None) -> None:
        """Replace the current model; the previous one is closed with the end of the last request that uses it."""
        with self._lock:
            previous, self._model = self._model, model
            if previous is None:
                return
            previous.retired = True
            unused = not previous.uses
        if unused:
            previous.close()


def load(directory: str | None, name: str, settings: Settings, metrics: Metrics) -> Model:
    """Load and warm a bundle.

    Args:
        directory: the bundle; None means the default of `Engine.load`.
        name: name of the bundle in logs and responses.
        settings: settings of the service.
        metrics: counts batches.

    Raises:
        ClapEdgeError: it cannot be used.
    """
    engine = Engine.load(
        directory,
        provider=settings.provider,
        precision=settings.precision,
        threads=settings.threads,
        prompt_cache=False,
    )
    return Model(name, engine, metrics)
