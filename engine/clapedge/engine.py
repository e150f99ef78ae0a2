"""The engine: a bundle, recordings and labels to results. The few lines that join the modules before it."""

import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.audio import AudioSource
from clapedge.errors import AudioError, BundleError, ClapEdgeWarning, LabelError, ProviderError, UsageError
from clapedge.features.clips import ClipMaker
from clapedge.features.fusion import Fusion
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.labels.prompt_cache import PromptCache
from clapedge.model.bundle import Bundle, BundleFile, Variant
from clapedge.model.cpu import usable_workers
from clapedge.model.precision import PrecisionWish, preferred_variant
from clapedge.model.providers import ProviderConfig, ProviderOptions, ProviderWish, choose
from clapedge.model.towers import AudioTower, TextTower
from clapedge.pipeline import Embedder, Hearing, Told, listen, listen_many
from clapedge.scoring import similarity as scoring
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import RecordingEmbeddings, Result, Timing

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

Labels: TypeAlias = "LabelSet | EmbeddedLabels | Sequence[str]"

MANY = 16
"""Recordings from which on they are embedded side by side: opening a second session takes as long as a few of them."""

LABEL_SETS_KEPT = 64
"""Label sets whose embeddings are kept: more than a program switches between, and no more memory than one clip's."""

WEIGHTS_NOTES = {
    "random": "the weights of {} are random: its scores mean nothing",
    "demo": "{} is the built-in demo model: it knows a few dozen sounds; export a pretrained model for real use",
}


class Engine:
    """Scores recordings against labels with one bundle. Thread-safe; a context manager."""

    def __init__(
        self,
        bundle: Bundle,
        provider_config: ProviderConfig,
        variant: Variant,
        *,
        fusion: Fusion,
        threads: int | None,
        spinning: bool,
        prompt_cache: bool,
    ) -> None:
        """Open the audio tower; use `Engine.load`."""
        self.bundle = bundle
        self.provider_config = provider_config
        self.variant = variant
        self.fusion = fusion
        self._threads, self._spinning, self._prompt_cache = threads, spinning, prompt_cache
        self._listen = partial(listen, clip_maker=ClipMaker(bundle.manifest.front_end), fusion=fusion)
        open_tower = partial(AudioTower, provider_config=provider_config, threads=threads, spinning=spinning)
        self._wide_tower: AudioTower | None = bundle.opened(bundle.file("audio", variant), open_tower)
        self._narrow_tower: AudioTower | None = None
        self._text_tower: TextTower | None = None
        self._embedded: OrderedDict[LabelSet, EmbeddedLabels] = OrderedDict()
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def load(
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
    ) -> "Engine":
        """Open a bundle.

        Args:
            bundle: its directory; None means `CLAPEDGE_BUNDLE`, else the built-in demo model.
            provider: where to run; `auto` takes a GPU where one is usable.
            precision: variant of the audio tower; `auto` takes the fastest present for the provider.
            threads: threads within an operator; None means every usable core.
            fusion: `long`, or `always` for what transformers does to a lone short clip.
            spinning: whether idle threads wait busily: quicker, and a burden on a device that does other things too.
            provider_options: options of ONNX Runtime for the provider.
            prompt_cache: whether embeddings of prompts are kept on disk; not where strangers choose the words.

        Raises:
            BundleError: the bundle is missing, damaged or lacks the precision.
            ProviderError: the provider cannot be used.
        """
        opened = Bundle.open(bundle)
        provider_config = choose(provider, options=provider_options)
        for reason in provider_config.fallback_reasons:
            warnings.warn(reason, ClapEdgeWarning, stacklevel=2)
        note = WEIGHTS_NOTES.get(opened.manifest.weights)
        if note:
            warnings.warn(note.format(opened.manifest.model), ClapEdgeWarning, stacklevel=2)
        engine = partial(cls, opened, fusion=fusion, threads=threads, spinning=spinning, prompt_cache=prompt_cache)
        while True:
            variant = preferred_variant(opened, "audio", provider_config.provider) if precision == "auto" else precision
            try:
                return engine(provider_config=provider_config, variant=variant)
            except ProviderError as error:
                if provider != "auto" or provider_config.provider == "cpu":
                    raise
                warnings.warn(f"running on the CPU: {error}", ClapEdgeWarning, stacklevel=2)
                provider_config = choose("cpu")

    def score(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        decision: Decision | None = None,
        told: Told | None = None,
        tower: Embedder | None = None,
        longest: float | None = None,
        **hearing: "Unpack[Hearing]",
    ) -> Result:
        """Score one recording against labels.

        A recording heard in several clips (`slide`) is scored by the mean of their embeddings; it is read and embedded
        a few clips at a time, so that hours need no more memory than a minute.

        Args:
            source: a path, bytes, a file object, or samples: (samples,) or (channels, samples).
            labels: a label set, an embedded one, or a list of words.
            decision: whether labels are decided apart, and when a decision is unsure.
            told: is told how far it was heard, see `listen`.
            tower: embeds the clips instead of the engine's own tower.
            longest: second of the recording beyond which nothing is decoded.
            **hearing: how the recording is heard, see `Hearing`.

        Raises:
            AudioError: the recording cannot be used.
            LabelError: the labels cannot be used.
        """
        embedded = self.embed_labels(labels)
        began = time.perf_counter()
        listened = self._listen(source, hearing, tower or self.audio_tower, told=told, longest=longest)
        manifest = self.bundle.manifest
        scale = manifest.logit_scale / embedded.temperature
        ranked = scoring.rank(listened.embedding, embedded.embeddings, embedded.label_set, scale)
        scores, unsure = scoring.decide(ranked, embedded.label_set, decision)
        total = time.perf_counter() - began
        seconds = (listened.decode, listened.frontend, total - listened.decode - listened.frontend, total)
        return Result(
            file=audio.source_name(source),
            labels=scores,
            unsure=unsure,
            heard=listened.heard,
            warnings=listened.warnings,
            model=manifest.model,
            weights=manifest.weights,
            variant=self.variant,
            provider=self.provider_config.provider,
            ms=Timing(*(round(1e3 * value, 3) for value in seconds)),
        )

    def listen(
        self,
        source: AudioSource,
        *,
        told: Told | None = None,
        tower: Embedder | None = None,
        longest: float | None = None,
        **hearing: "Unpack[Hearing]",
    ) -> RecordingEmbeddings:
        """Embed every clip of one recording, read and embedded a few clips at a time.

        Args:
            source: a path, bytes, a file object, or samples.
            told: is told after each step up to which second the recording was heard, and where it ends.
            tower: embeds the clips instead of the engine's own tower.
            longest: second of the recording beyond which nothing is decoded.
            **hearing: how the recording is heard, see `Hearing`.
        """
        return self._listen(source, hearing, tower or self.audio_tower, told=told, longest=longest)

    def embed_audio(self, sources: Sequence[AudioSource], **hearing: "Unpack[Hearing]") -> Float32Array:
        """Embed recordings: (N, E) float32, one unit row each; the options are those of `score`.

        Many recordings are embedded side by side, see `listen_many`.
        """
        if isinstance(sources, (str, bytes, os.PathLike)):
            raise UsageError(f"expected a list of recordings, found {sources!r:.60}; put it into a list")
        rows = np.empty((len(sources), self.bundle.manifest.embedding_size), np.float32)
        workers = usable_workers(self._threads) if len(sources) >= MANY else 1
        with closing(self.listen_many(sources, workers=workers, **hearing)) as everything:
            for row, source, listened in zip(rows, sources, everything, strict=True):
                if isinstance(listened, AudioError):
                    raise listened
                row[:] = listened.embedding
                for sentence in listened.warnings:
                    warnings.warn(f"{audio.source_name(source)}: {sentence}", ClapEdgeWarning, stacklevel=2)
        return rows

    def listen_many(
        self, sources: Iterable[AudioSource], *, workers: int, **hearing: "Unpack[Hearing]"
    ) -> Generator[RecordingEmbeddings | AudioError, None, None]:
        """Yield what listening to each recording came to, in their order; one that cannot be used gives its error.

        Several workers listen side by side, a few recordings ahead of what was taken. On the CPU each then uses one
        core, by a second session: cores that work apart do more than cores that share every operator.
        Close it (`contextlib.closing`) where it may be left early: the garbage collector doing so can block a thread.

        Args:
            sources: taken one by one, as workers become free.
            workers: recordings that are listened to at once.
            **hearing: how a recording is heard, see `Hearing`.
        """
        tower = self.single_core_tower() if workers > 1 and self.provider_config.provider == "cpu" else self.audio_tower
        return listen_many(
            sources, lambda source, told: self._listen(source, hearing, tower, told=told), workers=workers
        )

    def embed_text(self, prompts: Sequence[str]) -> Float32Array:
        """Embed prompts as they are, without a template: (N, E) float32, rows of unit norm.

        Raises:
            BundleError: the bundle has no text tower.
        """
        tower = self._text()
        for prompt in tower.truncated(prompts):
            warnings.warn(
                f"only the first {tower.max_tokens} tokens of the prompt {prompt[:40]!r}… are read",
                ClapEdgeWarning,
                stacklevel=2,
            )
        return tower.embed(prompts)

    def count_tokens(self, prompt: str) -> int:
        """Return the length of a prompt in tokens; of more than `max_tokens` of the manifest the rest is not read."""
        return self._text().count_tokens(prompt)

    def embed_labels(self, labels: Labels) -> EmbeddedLabels:
        """Embed labels once; the same set is not encoded twice.

        Raises:
            LabelError: embedded labels come from another text tower.
            BundleError: words are given and the bundle has no text tower.
        """
        own = self.bundle.manifest.text_tower
        if isinstance(labels, EmbeddedLabels):
            if labels.text_tower != own:
                raise LabelError(
                    "the labels were embedded by another model than this bundle's; "
                    f"embed them again: clapedge labels embed --bundle {self.bundle.directory}"
                )
            return labels
        label_set = labels if isinstance(labels, LabelSet) else LabelSet.of(labels)
        with self._lock:
            known = self._embedded.get(label_set)
            if known is not None:
                self._embedded.move_to_end(label_set)
                return known
        embedded = EmbeddedLabels.embed(label_set, self._encode_labels, own or "")
        with self._lock:
            self._embedded[label_set] = embedded
            while len(self._embedded) > LABEL_SETS_KEPT:
                self._embedded.popitem(last=False)
        return embedded

    @property
    def audio_tower(self) -> AudioTower:
        """The audio tower, whose operators share the threads of the engine.

        Raises:
            UsageError: the engine is closed.
        """
        tower = self._wide_tower
        if tower is None:
            raise self._is_closed()
        return tower

    def single_core_tower(self) -> AudioTower:
        """Return the audio tower in a session without threads of its own, opened when it is first needed.

        It gives the same bits as the other one.

        Raises:
            UsageError: the engine is closed.
        """
        if self._threads == 1:
            return self.audio_tower
        with self._lock:
            if self._closed:
                raise self._is_closed()
            if self._narrow_tower is None:
                path = self.bundle.path(self.bundle.file("audio", self.variant))
                self._narrow_tower = AudioTower(path, provider_config=self.provider_config, threads=1)
            return self._narrow_tower

    def has_embedded(self, label_set: LabelSet) -> bool:
        """Tell whether the embeddings of a label set are at hand."""
        return label_set in self._embedded

    def stored_labels(self, name: str) -> EmbeddedLabels:
        """Return the label set `labels/NAME.npz` of the bundle.

        Raises:
            BundleError: the bundle holds no such set, or something else; the message names those that it holds.
        """
        stored = self.bundle.label_sets
        if name not in stored:
            held = ", ".join(stored) or "none"
            raise BundleError(f"bundle {self.bundle.directory} holds no label set {name!r} (it holds: {held})")
        try:
            return EmbeddedLabels.load(self.bundle.path(stored[name]))
        except LabelError as error:
            raise BundleError(f"bundle {self.bundle.directory}: {error}") from error

    def close(self) -> None:
        """Release the sessions; the engine cannot be used afterwards."""
        self._wide_tower = self._narrow_tower = self._text_tower = None
        self._closed = True

    def __enter__(self) -> "Self":
        """Return the engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine."""
        self.close()

    def _is_closed(self) -> UsageError:
        """Return the error of whoever uses the engine after it was closed."""
        return UsageError(f"the engine of {self.bundle.directory} is closed; load it again: Engine.load(...)")

    def _encode_labels(self, prompts: Sequence[str]) -> Float32Array:
        """Embed prompts of labels through the cache on disk, without opening the text tower for known ones.

        A byte-level tokenizer makes at most one token a byte, so what fits in bytes is never truncated; a longer
        prompt passes the cache by, so that its truncation is said each time.
        """
        limit = self.bundle.manifest.max_tokens - 2  # <s> and </s>, which RoBERTa puts around a prompt
        if (
            not self._prompt_cache
            or not self.bundle.files("text")
            or any(len(prompt.encode()) > limit for prompt in prompts)
        ):
            return self.embed_text(prompts)
        made_by = (self._text_file().sha256, self.bundle.file("tokenizer").sha256)
        return PromptCache(*made_by).encode(prompts, self.embed_text)

    def _text_file(self) -> BundleFile:
        """Return the text tower in the precision of the audio tower, else the one that suits the CPU, where it runs."""
        return self.bundle.file("text", preferred_variant(self.bundle, "text", "cpu", like=self.variant))

    def _text(self) -> TextTower:
        """Return the text tower, opened when it is first needed: precomputed labels never need it."""
        with self._lock:
            if self._closed:
                raise self._is_closed()
            if self._text_tower is None:
                self._text_tower = self._open_text()
            return self._text_tower

    def _open_text(self) -> TextTower:
        """Open the text tower of the bundle."""
        bundle = self.bundle
        if not bundle.files("text"):
            raise BundleError(
                f"bundle {bundle.directory} has no text tower, so it knows only its stored label sets; "
                "name one of them with --labels, or export the bundle without --no-text"
            )
        open_tower = partial(
            TextTower,
            tokenizer=bundle.read(bundle.file("tokenizer")),
            max_tokens=bundle.manifest.max_tokens,
            threads=self._threads,
            spinning=self._spinning,
        )
        return bundle.opened(self._text_file(), open_tower)
