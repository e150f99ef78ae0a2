"""One lesson: clips of a label, of what it is not and of other sounds to a label set that knows it; and forgetting."""

import os
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio import AudioSource
from clapedge.errors import AudioError, ClapEdgeWarning, LabelError
from clapedge.labels import NOVELTY, EmbeddedLabels, LabelSet
from clapedge.labels.examples import Examples, Kind, unpacked
from clapedge.labels.npz import read_arrays
from clapedge.model.bundle import Bundle
from clapedge.pipeline import EmbedStream, RecordingOptions
from clapedge.scoring.similarity import Scorer
from clapedge.teaching.background import FEWEST_WINDOWS, FalseAlarms, calibrate, check_enough
from clapedge.teaching.clips import TaughtClip, common_parts, read_clips
from clapedge.teaching.novelty import with_novelty
from clapedge.teaching.prototypes import teach
from clapedge.teaching.windows import MOST_WINDOWS, BackgroundWindows

WINDOW_SECONDS, HOP_SECONDS = 2.0, 1.0
"""Seconds of a window of background and from one to the next: those of events."""

MOST_EXAMPLES = 100
"""Clips of one label that are kept, 256 or 512 bytes each; more change its mean by less than their own spread."""

MOST_OTHERS = 128
"""Other sounds that are kept."""


@dataclass(frozen=True)
class Lesson:
    """What teaches a label.

    Attributes:
        name: of the label.
        clips: recordings of it.
        negatives: recordings of what it is not.
        others: recordings of many other sounds.
    """

    name: str
    clips: Iterable[AudioSource] = ()
    negatives: Iterable[AudioSource] = ()
    others: Iterable[AudioSource] = ()


class Teacher:
    """Teaches labels with one bundle."""

    def __init__(self, bundle: Bundle, embed_stream: Callable[..., EmbedStream], *, space: str) -> None:
        """Use a bundle, and `Engine.embed_stream` of an engine that has opened it, with the space of its embeddings."""
        self._bundle, self._embed_stream, self._space = bundle, embed_stream, space

    def teach(self, lesson: Lesson, labels: EmbeddedLabels | None) -> EmbeddedLabels:
        """Return a label set that knows a label as well, or knows it better.

        Args:
            lesson: the label and its clips.
            labels: what is known already; None begins with the label alone.

        Raises:
            LabelError: the name is empty, it has too many clips, or too few other sounds are known.
            AudioError: none of the clips can be used.
        """
        if not lesson.name.strip():
            raise LabelError("the sound has no name; give it one, such as 'garden gate'")
        if lesson.name == NOVELTY:
            raise LabelError(f"{NOVELTY!r} is the name of what is unlike the background; give the sound another")
        kept = _examples_of(labels, self._bundle.manifest.embedding_size)
        given: tuple[tuple[Kind, Iterable[AudioSource]], ...]
        given = ("example", lesson.clips), ("negative", lesson.negatives), ("other", lesson.others)
        for kind, sources in given:
            kept = self._added(kept, kind, "" if kind == "other" else lesson.name, list(sources))
        if not len(kept.where(label=lesson.name, kind="example")):
            raise LabelError(f"no clip teaches {lesson.name!r}; give recordings of it")
        return self._taught(labels, kept)

    def forget(self, labels: EmbeddedLabels, name: str, *, clips: Collection[str] = ()) -> EmbeddedLabels:
        """Return a label set without a taught label, or without some of its clips.

        Args:
            labels: the label set.
            name: of the label.
            clips: names of recordings; none forgets all of them. Words of the label stay.

        Raises:
            LabelError: there is no such label, no such clip, or nothing is left.
        """
        kept = _examples_of(labels, self._bundle.manifest.embedding_size)
        known = {clip for clip, label in zip(kept.clips, kept.labels, strict=True) if label == name and clip}
        if not known or not set(clips) <= known:
            what = min(set(clips) - known, default=name)
            raise LabelError(f"{what!r} taught nothing to {name!r}; it knows: {', '.join(sorted(known)) or 'no clip'}")
        gone = set(clips) or {*known, ""}
        pairs = enumerate(zip(kept.labels, kept.clips, strict=True))
        left = kept.take(at for at, (label, clip) in pairs if label != name or clip not in gone)
        if not len(left.where(label=name, kind="example")):
            words = kept.where(label=name, kind="words")
            left = left.take(at for at, label in enumerate(left.labels) if label != name)
            labels = _without_clips(labels, name, words)
        return self._taught(labels, left)

    def _embed(self, samples: Float32Array, seconds: float, hop: float) -> Float32Array:
        """Embed parts of samples, see `EmbedParts`."""
        return self._embed_stream(samples, window="slide", length=seconds, hop=hop).collect().clips

    def calibrate(
        self,
        labels: EmbeddedLabels | None,
        background: Iterable[AudioSource] | BackgroundWindows,
        *,
        alarms: FalseAlarms,
        window: float = WINDOW_SECONDS,
        hop: float = HOP_SECONDS,
        novelty: bool = False,
    ) -> EmbeddedLabels:
        """Return labels with thresholds against background of the site, see `background.calibrate`.

        Args:
            labels: the labels; None asks for novelty alone.
            background: recordings in which none of them sounds, or kept windows of such.
            alarms: false alarms that are accepted.
            window: seconds of each window, as they will be scored.
            hop: seconds from one window to the next.
            novelty: whether to add the label of what is unlike the background. It knows the first third of it; the
                rest, which it does not know, gives the thresholds of all labels.

        Raises:
            AudioError: there is too little background, or it was kept by another model.
            LabelError: another label is called as novelty is, or there is no label.
        """
        if not isinstance(background, BackgroundWindows):
            background = self.windows(background, window=window, hop=hop)
        if background.space != self._space:
            raise AudioError(
                f"the windows of background were embedded by another model or variant (space {background.space}, here "
                f"{self._space}); keep them anew with this one"
            )
        check_enough(len(background))
        cut = len(background) // 3 if novelty else 0
        if cut and len(background) - cut < FEWEST_WINDOWS and labels is not None:
            warnings.warn(
                f"{len(background)} windows of background are too few for novelty, which is left out; record half more",
                ClapEdgeWarning,
                stacklevel=2,
            )
            cut = 0
        if cut:
            known = unpacked(background.rows[:cut])
            labels = with_novelty(labels, known, text_tower=self._bundle.manifest.text_tower or "")
        if labels is None:
            raise LabelError("there are no labels to calibrate; give some, or ask for novelty=True")
        scorer = Scorer(labels, self._bundle.manifest.logit_scale)
        return calibrate(labels, map(scorer.similarities, background.parts(cut)), alarms=alarms, hop=background.hop)

    def windows(self, sources: Iterable[AudioSource], *, window: float, hop: float) -> BackgroundWindows:
        """Embed windows of recordings of a site."""
        options: RecordingOptions = {"window": "slide", "length": window, "hop": hop}
        batches = (batch.embeddings for source in sources for batch in self._embed_stream(source, **options))
        found = BackgroundWindows.of(batches, hop=hop, space=self._space)
        if len(found) == MOST_WINDOWS:
            warnings.warn(f"the first {MOST_WINDOWS} windows of background are used", ClapEdgeWarning, stacklevel=3)
        return found

    def load_windows(self, path: str | os.PathLike[str]) -> BackgroundWindows:
        """Read windows that `clapedge listen` kept, see `BackgroundWindows.load`."""
        return BackgroundWindows.load(path, size=self._bundle.manifest.embedding_size)

    def pool(self, kept: Examples) -> Float32Array:
        """Return the other sounds that labels are taught against: those of the bundle and those that were given."""
        size = self._bundle.manifest.embedding_size
        paths = map(self._bundle.path, self._bundle.files("pool"))
        pools = [kept.where(kind="other"), *(Examples.restored(read_arrays(path), size=size) for path in paths)]
        return np.concatenate([pool.vectors() for pool in pools])

    def _taught(self, labels: EmbeddedLabels | None, kept: Examples) -> EmbeddedLabels:
        """Return the label set of examples, beside the words of the labels."""
        return teach(labels, kept, self.pool(kept), text_tower=self._bundle.manifest.text_tower or "")

    def _added(self, kept: Examples, kind: Kind, label: str, sources: list[AudioSource]) -> Examples:
        """Return the examples, and those of new recordings; one of a known name replaces it."""
        if not sources:
            return kept
        clips = read_clips(sources, self._embed)
        chosen = common_parts(clips) if kind == "example" else [_middle(clip) for clip in clips]
        names = [name for name, _ in chosen]
        pairs = enumerate(zip(kept.labels, kept.kinds, kept.clips, strict=True))
        kept = kept.take(at for at, (its, of, clip) in pairs if (its, of) != (label, kind) or clip not in names)
        most = MOST_OTHERS if kind == "other" else MOST_EXAMPLES
        known = len(kept.where(label=label, kind=kind))
        if known + len(names) > most:
            raise LabelError(f"{known + len(names)} recordings are more than the {most} that are kept; give fewer")
        return kept + Examples.of(np.stack([row for _, row in chosen]), label=label, kind=kind, clips=names)


def _middle(clip: TaughtClip) -> tuple[str, Float32Array]:
    """Return the name of a clip, and the mean of its parts."""
    mean = clip.parts.mean(axis=0)
    return clip.name, np.asarray(mean / max(float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny)), np.float32)


def _examples_of(labels: EmbeddedLabels | None, size: int) -> Examples:
    """Return the examples that a label set keeps."""
    if labels is not None and labels.examples is not None:
        return labels.examples
    return Examples(np.empty((0, size), np.int8))


def _without_clips(labels: EmbeddedLabels, name: str, words: Examples) -> EmbeddedLabels:
    """Return a label set in which a label has its words alone, or is gone."""
    kept, rows = [], []
    for label, row in zip(labels.label_set.labels, labels.embeddings, strict=True):
        if label.name != name or label.prompts:
            kept.append(replace(label, examples=0) if label.name == name else label)
            rows.append(words.vectors()[0] if label.name == name else row)
    if not kept:
        raise LabelError(f"{name!r} is the only label; delete the file instead")
    return replace(labels, label_set=LabelSet(tuple(kept)), embeddings=np.stack(rows), placement=None, rejection=None)
