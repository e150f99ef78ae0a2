"""The engine that answers, with what stands in front of its tower; another one may take its place at any time."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from clapedge.engine import Engine
from clapedge.errors import ClapEdgeError
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.model.gpu_tower import GpuAudioTower
from clapedge.pipeline import Embedder
from clapedge.serve.errors import NotReadyError
from clapedge.serve.metrics import Metrics
from clapedge.serve.settings import Settings

WARM_SECONDS = 1
"""Length of the silence that warms a tower: any recording fills one clip."""


@dataclass(frozen=True)
class Facts:
    """What answers now.

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
        reads_words: whether it has a text tower, so that any words may be labels.
        embedding_size: numbers in an embedding.
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


class Model:
    """A loaded, warm engine. It is closed when it was replaced and the last request that uses it has ended."""

    def __init__(self, name: str, engine: Engine, metrics: Metrics) -> None:
        """Warm an engine: open every session that requests may need, and run each once.

        Args:
            name: of its bundle.
            engine: freshly loaded.
            metrics: where batches are counted.
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
            self.close()  # its threads would keep it, and the memory of a GPU, for ever
            raise

    @property
    def facts(self) -> Facts:
        """Describe it."""
        manifest = self.engine.bundle.manifest
        return Facts(
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
        )

    def tower(self, *, alone: bool) -> Embedder:
        """Return what embeds the next clips of a request.

        On a GPU requests share runs, one alone too, so that no bit depends on others. On the CPU one alone uses every
        core, and several use one each, see `Engine.shared_tower`.

        Args:
            alone: whether no other request is in progress at the moment.
        """
        alone = alone and not self.engine.provider_config.on_gpu
        return self.engine.audio_tower if alone else self.engine.shared_tower()

    def close(self) -> None:
        """Release the sessions."""
        self.engine.close()

    def _warm(self) -> None:
        """Run every session once."""
        silence = np.zeros(WARM_SECONDS * 48_000, np.float32)
        silence[::480] = 0.1  # a tick, so that no warning speaks of silence
        for alone in (True, False):
            self.engine.embed_stream(silence, tower=self.tower(alone=alone)).collect()
        if self.reads_words:
            self.engine.embed_labels(LabelSet.of(["a sound"]))


class Models:
    """The model that answers now."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._model: Model | None = None
        self.fault: str | None = None
        """Why newer bundles were refused, if they were."""
        self.others: Mapping[str, str | None] = {}
        """Bundles beside the one that answers, and why they were refused."""

    @property
    def ready(self) -> bool:
        """Whether there is a model."""
        return self._model is not None

    @contextmanager
    def using(self) -> Iterator[Model]:
        """Yield the model that answers now, and keep it open until the block ends.

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
        """Let another model answer from now on; the one before ends with the last request that uses it."""
        with self._lock:
            before, self._model = self._model, model
            if before is not None:
                before.retired = True
            unused = before is not None and not before.uses
        if before is not None and unused:
            before.close()


def load(directory: str | None, name: str, settings: Settings, metrics: Metrics) -> Model:
    """Load and warm a bundle.

    Args:
        directory: the bundle; None is the default of `Engine.load`.
        name: what the service calls it.
        settings: of the service.
        metrics: of the service.

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
