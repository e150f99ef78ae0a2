"""The engine: a bundle, recordings and labels to results. The few lines that join the rooms before it."""

import os
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.audio import SAMPLE_RATE, AudioSource, BlockDecoder
from clapedge.errors import AudioError, ClapEdgeWarning, UsageError
from clapedge.events.rules import EventRule
from clapedge.events.timeline import HOP_SECONDS, Timeline, default_window, window_options
from clapedge.features.clips import BATCH_CLIPS, ClipMaker
from clapedge.features.fusion import Fusion
from clapedge.features.strips import Strips, tower_name
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.labels.encoder import LabelEncoder, Labels
from clapedge.labels.loader import stored_labels
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.cpu import usable_workers
from clapedge.model.front_end_graph import FrontendWish
from clapedge.model.opening import OpenedTowers, TowerWish, open_audio_towers
from clapedge.model.precision import PrecisionWish
from clapedge.model.proof import Reproduction
from clapedge.model.providers import ProviderConfig, ProviderOptions, ProviderWish
from clapedge.model.tower_set import TowerChoice, TowerSet
from clapedge.pipeline import Embedder, EmbedStream, ReadKeywords, RecordingOptions, embed_many, split_options
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import Provenance, RecordingEmbeddings, Result
from clapedge.scoring.similarity import Scorer

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from clapedge.events.event import LiveEvent
    from clapedge.features.front_end import Frontend
    from clapedge.model.gpu_tower import GpuAudioTower
    from clapedge.model.towers import AudioTower
    from clapedge.teaching.teacher import Lesson, Teacher

MANY = 16
"""Recordings from which on they are embedded side by side: opening a second session takes as long as a few of them."""


class Engine:
    """Scores recordings against labels with one bundle. Thread-safe; a context manager."""

    def __init__(self, bundle: Bundle, opened: OpenedTowers, *, fusion: Fusion, prompt_cache: bool) -> None:
        """Take an opened audio tower; use `Engine.load`."""
        self.bundle = bundle
        self.provider_config: ProviderConfig = opened.provider_config
        self.variant: Variant = opened.variant
        self.fusion = fusion
        self._threads, self._check = opened.wish.threads, opened.check
        self.towers = TowerSet(bundle, opened)
        self._encoder = LabelEncoder(bundle, self.variant, opened.wish, prompt_cache=prompt_cache)
        self.frontend: Frontend = opened.towers.frontend
        self.clip_maker = ClipMaker(bundle.manifest.front_end, frontend=self.frontend)

    @classmethod
    def load(  # noqa: PLR0913 - one keyword an option
        cls,
        bundle: str | os.PathLike[str] | None = None,
        *,
        provider: ProviderWish = "auto",
        precision: PrecisionWish = "auto",
        threads: int | None = None,
        fusion: Fusion = "long",
        spinning: bool = True,
        provider_options: ProviderOptions | None = None,
        prompt_cache: bool = True,
        self_check: bool = True,
        frontend: FrontendWish = "auto",
    ) -> "Engine":
        """Open a bundle.

        Args:
            bundle: its directory, or `hf:ORG/NAME`, see `locate`; None means `CLAPEDGE_BUNDLE`, else the demo model.
            provider: where to run; `auto` takes a GPU where one is usable.
            precision: variant of the audio tower; `auto` takes the fastest present that reproduces the model here.
            threads: threads within an operator; None means every usable core.
            fusion: `long`, or `always` for what transformers does to a lone short clip.
            spinning: whether idle threads wait busily: quicker, and a burden on a device that does other things too.
            provider_options: options of ONNX Runtime for the provider.
            prompt_cache: whether embeddings of prompts are kept on disk; not where strangers choose the words.
            self_check: whether a variant has to reproduce the model on this machine, see `check_variant`; found out
                the first time, and kept in the cache directory.
            frontend: what makes log-mels: `numpy`, or `device` for the GPU; `auto` takes a GPU that is quick at it.

        Raises:
            BundleError: the bundle is missing, damaged or lacks the precision.
            ParityError: no variant that was asked for reproduces the model on this machine.
            ProviderError: the provider cannot be used.
        """
        wish = TowerWish(
            provider=provider,
            provider_options=provider_options,
            precision=precision,
            threads=threads,
            spinning=spinning,
            self_check=self_check,
            frontend=frontend,
        )
        opened = Bundle.open(bundle)
        return cls(opened, open_audio_towers(opened, wish, stacklevel=2), fusion=fusion, prompt_cache=prompt_cache)

    def score(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        decision: Decision | None = None,
        **options: "Unpack[RecordingOptions]",
    ) -> Result:
        """Score one recording against labels.

        A recording of several clips (`window="slide"`) is scored by the mean of their embeddings; it is read and
        embedded a few clips at a time, so that hours need no more memory than a minute.

        Args:
            source: a path, bytes, a file object, samples (samples,) or (channels, samples), or a pair of samples and
                their sample rate.
            labels: a label set, an embedded one, or a list of words.
            decision: whether each label is decided against its own threshold, and when a decision is unsure.
            **options: which part is read and how it becomes clips, see `ReadOptions` and `ClipOptions`.

        Raises:
            AudioError: the recording cannot be used.
            LabelError: the labels cannot be used.
        """
        scorer = self.scorer(labels)
        return self.result(self.embed_stream(source, **options).collect(), scorer, decision)

    def score_many(
        self,
        sources: Iterable[AudioSource],
        labels: Labels,
        *,
        decision: Decision | None = None,
        workers: int | None = None,
        **options: "Unpack[RecordingOptions]",
    ) -> Iterator[Result | AudioError]:
        """Yield the result of each recording, in their order; one that cannot be used gives its error.

        Args:
            sources: taken one by one, a few ahead of what was taken of the results.
            labels: see `score`.
            decision: see `score`.
            workers: recordings that are embedded at once; None means as many as the usable cores take.
            **options: see `score`.
        """
        scorer = self.scorer(labels)
        with closing(self.embed_many(sources, workers=workers, **options)) as recordings:
            for one in recordings:
                yield one if isinstance(one, AudioError) else self.result(one, scorer, decision)

    def timeline(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        window: float | None = None,
        hop: float = HOP_SECONDS,
        tower: TowerChoice = "auto",
        **options: "Unpack[ReadKeywords]",
    ) -> Timeline:
        """Score a recording over time; `Timeline.events` finds the events in it.

        It is read as a stream: only the embedding of each window is kept.

        Args:
            source: see `score`.
            labels: see `score`.
            window: seconds of each window, at most a clip's 10; None means twice the hop, see `default_window`.
            hop: seconds from one window to the next; on multiples of 10 ms, windows share their log-mels.
            tower: what embeds the windows, see `strips_for`.
            **options: which part is read, see `ReadOptions`.

        Raises:
            AudioError: the recording cannot be used.
            LabelError: the labels cannot be used.
            UsageError: the window, the hop or the tower is impossible.
        """
        window = default_window(hop) if window is None else window
        scorer = self.scorer(labels)
        strips = self.strips_for(window, scorer, tower)
        windows: RecordingOptions = {**options, **window_options(window, hop, strips)}
        recording = self.embed_stream(source, **windows).collect()
        return self.timeline_of(recording, scorer, window=window)

    def stream(
        self,
        blocks: Iterable[npt.NDArray[np.generic]],
        labels: Labels,
        *,
        sample_rate: int = SAMPLE_RATE,
        rule: EventRule | None = None,
        window: float | None = None,
        hop: float = HOP_SECONDS,
        update: float = 0.0,
        tower: TowerChoice = "auto",
    ) -> "Iterator[LiveEvent]":
        """Yield the events in live sound, each as soon as it is certain.

        Args:
            blocks: the samples as they come, (n,) or (channels, n), of any length.
            labels: see `score`.
            sample_rate: Hz of the samples.
            rule: when a label counts as present.
            window: see `timeline`.
            hop: see `timeline`.
            update: seconds after which an event that goes on is yielded again; 0 never does.
            tower: see `timeline`.
        """
        from clapedge.events.stream import EventStream

        window, scorer = default_window(hop) if window is None else window, self.scorer(labels)
        events = EventStream(scorer, rule or EventRule(), window=window, update=update)
        windows = window_options(window, hop, self.strips_for(window, scorer, tower))
        stream = self.embed_stream(BlockDecoder(blocks, sample_rate), batch=1, **windows)
        yield from chain.from_iterable(map(events.push, stream))
        yield from events.close(stream.coverage.end)

    def embed_stream(
        self,
        source: AudioSource | BlockDecoder,
        *,
        tower: Embedder | None = None,
        max_seconds: float | None = None,
        batch: int = BATCH_CLIPS,
        **options: "Unpack[RecordingOptions]",
    ) -> EmbedStream:
        """Return the embeddings of one recording's clips as a stream: progress and cancelling are the caller's loop.

        Args:
            source: see `score`.
            tower: that of the options' strips, `audio_tower` or `shared_tower()`; None means one for this caller alone.
            max_seconds: second of the recording beyond which nothing is decoded; None decodes to its end.
            batch: clips at once, at most.
            **options: see `score`.

        Raises:
            UsageError: an option has an impossible value.
        """
        read_options, clip_options = split_options(options, fusion=self.fusion)
        tower = tower or self.towers.open(clip_options.strips).alone
        parts = (source, self.clip_maker, tower, read_options, clip_options)
        return EmbedStream(*parts, max_seconds=max_seconds, batch=batch)

    def embed_many(
        self, sources: Iterable[AudioSource], *, workers: int | None = None, **options: "Unpack[RecordingOptions]"
    ) -> Generator[RecordingEmbeddings | AudioError, None, None]:
        """Yield the embeddings of each recording, in their order; one that cannot be used gives its error.

        Several workers read and embed side by side, a few recordings ahead of what was taken, see `shared_tower`.
        Close it (`contextlib.closing`) where it may be left early: the garbage collector doing so can block a thread.

        Args:
            sources: taken one by one, as workers become free.
            workers: recordings that are embedded at once; None means as many as the usable cores take.
            **options: see `score`.
        """
        workers = workers or usable_workers(self._threads, on_gpu=self.provider_config.on_gpu)
        tower = self.shared_tower(options.get("strips")) if workers > 1 else None
        return embed_many((self.embed_stream(one, tower=tower, **options) for one in sources), workers=workers)

    def embed_audio(self, sources: Iterable[AudioSource], **options: "Unpack[RecordingOptions]") -> Float32Array:
        """Embed recordings: (N, E) float32, one unit row each; the options are those of `score`.

        Many recordings are embedded side by side, see `embed_many`; `sources` may be an iterator, which is read as
        workers become free.

        Raises:
            AudioError: a recording cannot be used.
        """
        if isinstance(sources, (str, bytes, os.PathLike, np.ndarray)):
            raise UsageError(f"expected a list of recordings, found {sources!r:.60}; put it into a list")
        remaining = iter(sources)
        first = list(islice(remaining, MANY))
        workers = None if len(first) == MANY else 1
        rows = []
        with closing(self.embed_many(chain(first, remaining), workers=workers, **options)) as recordings:
            for one in recordings:
                if isinstance(one, AudioError):
                    raise one
                rows.append(one.embedding)
                for sentence in one.warnings:
                    warnings.warn(f"{one.file}: {sentence}", ClapEdgeWarning, stacklevel=2)
        return np.stack(rows) if rows else np.empty((0, self.bundle.manifest.embedding_size), np.float32)

    def scorer(self, labels: Labels) -> Scorer:
        """Return what scores embeddings of this engine against labels; see `embed_labels` for errors."""
        return Scorer(self.embed_labels(labels), self.bundle.manifest.logit_scale)

    @property
    def provenance(self) -> Provenance:
        """What results of this engine say of how they were made."""
        return self.made_with()

    def made_with(self, strips: Strips | None = None, frontend: "Frontend | None" = None) -> Provenance:
        """Return what results say of how they were made, by strips of clips where a short tower was used."""
        of, provider, space = self.bundle.manifest, self.provider_config.provider, self.towers.space(strips)
        made = (self.variant, provider, space, frontend or self.frontend, tower_name(strips))
        return Provenance(of.model, of.weights, *made)

    def strips_for(self, window: float, scorer: Scorer, tower: TowerChoice = "auto") -> Strips | None:
        """Return the strips of a clip that embed windows of so many seconds, see `TowerSet.strips`; None means all."""
        return self.towers.strips(tower, window, fusion=self.fusion, by_clips=scorer.labels.by_clips)

    def result(self, recording: RecordingEmbeddings, scorer: Scorer, decision: Decision | None = None) -> Result:
        """Return the result of an embedded recording."""
        (decided,) = scorer.decide(recording.embedding[None], decision)
        return Result(
            **decided.fields,
            file=recording.file,
            coverage=recording.coverage,
            warnings=recording.warnings,
            provenance=self.made_with(recording.strips, recording.frontend),
            timing=recording.timing,
        )

    def timeline_of(self, recording: RecordingEmbeddings, scorer: Scorer, *, window: float) -> Timeline:
        """Return the timeline of a recording that was embedded in windows, see `window_options`."""
        return Timeline.from_windows(
            recording, scorer, window=window, provenance=self.made_with(recording.strips, recording.frontend)
        )

    def embed_text(self, prompts: Sequence[str]) -> Float32Array:
        """Embed prompts as they are, without a template: (N, E) float32 of unit norm, if there is a text tower."""
        return self._encoder.embed_text(prompts)

    def count_tokens(self, prompt: str) -> int:
        """Return the length of a prompt in tokens; of more than `max_tokens` of the manifest the rest is not read."""
        return self._encoder.tower().count_tokens(prompt)

    def teach(self, lesson: "Lesson", labels: "Labels | None" = None) -> EmbeddedLabels:
        """Return labels and, beside them, one that clips teach, see `Teacher.teach`; a known one is taught more."""
        return self.teacher.teach(lesson, None if labels is None else self.embed_labels(labels))

    @property
    def teacher(self) -> "Teacher":
        """What teaches labels with this bundle, and lets them be forgotten."""
        from clapedge.teaching.teacher import Teacher

        return Teacher(self.bundle, self.embed_stream, space=self.provenance.space)

    def embed_labels(self, labels: Labels) -> EmbeddedLabels:
        """Embed labels once; the same set is not encoded twice.

        Raises:
            LabelError: embedded labels come from another text tower.
            BundleError: words are given and the bundle has no text tower.
        """
        return self._encoder.embed_labels(labels)

    def has_embedded(self, label_set: LabelSet) -> bool:
        """Return whether the embeddings of a label set are kept."""
        return self._encoder.has_embedded(label_set)

    def stored_labels(self, name: str) -> EmbeddedLabels:
        """Return the label set `labels/NAME.npz` of the bundle, see `labels.loader.stored_labels` for errors."""
        return stored_labels(self.bundle, name)

    @property
    def audio_tower(self) -> "AudioTower | GpuAudioTower":
        """The whole audio tower for a caller that is alone, while the engine is open."""
        return self.towers.open().alone

    def shared_tower(self, strips: Strips | None = None) -> Embedder:
        """Return the audio tower for callers that work side by side, see `AudioTowers.shared` and `TowerSet.open`."""
        return self.towers.open(strips).shared()

    def check_variant(self) -> Reproduction | None:
        """Compare the audio tower with the float32 embeddings that the bundle carries, whatever was found before.

        The figures are kept for the next load; there are none for a bundle that carries no embeddings.
        """
        return self._check.measure_audio(self.audio_tower, self.clip_maker)

    def close(self) -> None:
        """Release the sessions; the engine cannot be used afterwards."""
        self._encoder.close()
        self.towers.close()

    def __enter__(self) -> "Self":
        """Return the engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine."""
        self.close()
