"""Words to embeddings with one bundle: the text tower, opened when it is first needed, and what was embedded before."""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias
from weakref import WeakSet

from clapedge.arrays import Float32Array
from clapedge.errors import BundleError, ClapEdgeWarning, LabelError, ParityError
from clapedge.labels.embedded import EmbeddedLabels
from clapedge.labels.label_set import LabelSet
from clapedge.labels.prompt_cache import PromptCache
from clapedge.model.bundle import Bundle, BundleFile, Variant
from clapedge.model.collapse import HIGHEST_COSINE, likeness
from clapedge.model.opening import TowerWish
from clapedge.model.precision import preferred_variants
from clapedge.model.proof import Reproduction, VariantCheck, misses
from clapedge.model.providers import choose
from clapedge.model.space import words_space
from clapedge.model.tower_set import closed_error
from clapedge.model.towers import TextTower

Labels: TypeAlias = "LabelSet | EmbeddedLabels | Sequence[str]"

LABEL_SETS_KEPT = 64
"""Label sets whose embeddings are kept: more than a program switches between, and no more memory than one clip's."""


class LabelEncoder:
    """Embeds prompts and label sets. Threads may share it."""

    def __init__(self, bundle: Bundle, variant: Variant, wish: TowerWish, *, prompt_cache: bool) -> None:
        """Prepare to open the text tower of a bundle.

        Args:
            bundle: holds the text tower and the tokenizer, or stored label sets alone.
            variant: precision of the audio tower, which the text tower's follows where it can.
            wish: threads, and whether the tower has to reproduce its model on this machine, see `VariantCheck`.
            prompt_cache: whether embeddings of prompts are kept on disk.
        """
        self._bundle, self._variant, self._wish = bundle, variant, wish
        self._failed: dict[Variant, str] = {}
        self._keeps_prompts = prompt_cache and bool(bundle.files("text"))
        self._tower: TextTower | None = None
        self._embedded: OrderedDict[LabelSet, EmbeddedLabels] = OrderedDict()
        self._compared: WeakSet[EmbeddedLabels] = WeakSet()
        self._closed = False
        self._lock = threading.Lock()

    def embed_text(self, prompts: Sequence[str]) -> Float32Array:
        """Embed prompts as they are, see `Engine.embed_text`."""
        tower = self.tower()
        for prompt in tower.truncated(prompts):
            warnings.warn(
                f"only the first {tower.max_tokens} tokens of the prompt {prompt[:40]!r}… are read",
                ClapEdgeWarning,
                stacklevel=3,
            )
        return tower.embed(prompts)

    def embed_labels(self, labels: Labels) -> EmbeddedLabels:
        """Embed labels once, see `Engine.embed_labels`."""
        own = self._bundle.manifest.text_tower
        if isinstance(labels, EmbeddedLabels):
            if labels.space != words_space(own):
                raise LabelError(
                    f"the labels were embedded by another model (space {labels.space}) than this bundle's (space "
                    f"{words_space(own)}); embed them again: clapedge labels embed --bundle {self._bundle.directory}"
                )
            self._compare(labels)
            return labels
        label_set = labels if isinstance(labels, LabelSet) else LabelSet.of(labels)
        with self._lock:
            known = self._embedded.get(label_set)
            if known is not None:
                self._embedded.move_to_end(label_set)
                return known
        embedded = EmbeddedLabels.embed(label_set, self._embed_prompts, own or "")
        self._compare(embedded)
        with self._lock:
            self._embedded[label_set] = embedded
            while len(self._embedded) > LABEL_SETS_KEPT:
                self._embedded.popitem(last=False)
        return embedded

    def has_embedded(self, label_set: LabelSet) -> bool:
        """Return whether the embeddings of a label set are kept."""
        return label_set in self._embedded

    def tower(self) -> TextTower:
        """Return the text tower, opened when it is first needed: precomputed labels never need it.

        Raises:
            BundleError: the bundle has none.
            UsageError: the engine is closed.
        """
        with self._lock:
            if self._closed:
                raise closed_error(self._bundle)
            if self._tower is None:
                self._tower = self._open()
            return self._tower

    def close(self) -> None:
        """Release the session."""
        self._tower, self._closed = None, True

    def _compare(self, embedded: EmbeddedLabels) -> None:
        """Warn, once for each set, if the embeddings of its labels nearly coincide."""
        with self._lock:
            if embedded in self._compared:
                return
            self._compared.add(embedded)
        sentence = nearly_coinciding(embedded)
        if sentence:
            warnings.warn(sentence, ClapEdgeWarning, stacklevel=4)

    def _embed_prompts(self, prompts: Sequence[str]) -> Float32Array:
        """Embed prompts of labels through the cache on disk, without opening the text tower for known ones.

        A byte-level tokenizer makes at most one token a byte, so what fits in bytes is never truncated; a longer
        prompt bypasses the cache, so that its truncation is reported each time.
        """
        limit = self._bundle.manifest.max_tokens - 2  # <s> and </s>, which RoBERTa puts around a prompt
        if not self._keeps_prompts or any(len(prompt.encode()) > limit for prompt in prompts):
            return self.embed_text(prompts)
        made_by = (self._file().sha256, self._bundle.file("tokenizer").sha256)
        return PromptCache(*made_by).encode(prompts, self.embed_text)

    def _file(self) -> BundleFile:
        """Return the text tower in the precision of the audio tower, else the one that suits the CPU, where it runs.

        Raises:
            ParityError: none reproduces its model on this machine.
        """
        for variant in preferred_variants(self._bundle, "text", "cpu", like=self._variant):
            file = self._bundle.file("text", variant)
            check = VariantCheck(self._bundle, file, choose("cpu"))
            known = check.recall() if self._wish.self_check and variant not in self._failed else None
            if known is not None and not known.holds:
                self._fail(check, known)
            if variant not in self._failed:
                return file
        raise ParityError(f"{' and '.join(self._failed.values())}; export the bundle again, or use self_check=False")

    def _fail(self, check: VariantCheck, found: Reproduction) -> None:
        """Note, and warn once, that a variant does not reproduce its model here."""
        self._failed[check.file.variant or "fp32"] = misses(check.file, "cpu", found)
        warnings.warn(misses(check.file, "cpu", found), ClapEdgeWarning, stacklevel=2)

    def _open(self) -> TextTower:
        """Open the text tower of the bundle."""
        bundle = self._bundle
        if not bundle.files("text"):
            raise BundleError(
                f"bundle {bundle.directory} has no text tower, so it knows only its stored label sets; "
                "use one of them, or export the bundle with its text tower"
            )
        open_tower = partial(
            TextTower,
            tokenizer=bundle.read(bundle.file("tokenizer")),
            max_tokens=bundle.manifest.max_tokens,
            threads=self._wish.threads,
            spinning=self._wish.spinning,
        )
        while True:
            file = self._file()
            tower = bundle.opened(file, open_tower)
            check = VariantCheck(bundle, file, choose("cpu"))
            if not self._wish.self_check or check.recall() is not None:  # or else it would not have been taken
                return tower
            found = check.measure_text(tower)
            if found is None or found.holds:
                return tower
            self._fail(check, found)


def nearly_coinciding(embedded: EmbeddedLabels) -> str | None:
    """Return a sentence about labels that the model cannot tell apart by their embeddings, or None.

    Labels of the same prompts count as one: that is how they were written.
    """
    labels = embedded.label_set.labels
    distinct = sorted({frozenset(label.prompts): at for at, label in enumerate(labels)}.values())
    alike = likeness(embedded.embeddings[distinct])
    if alike.median > HIGHEST_COSINE:
        return (
            f"the {alike.count} labels have nearly the same embedding (median cosine {alike.median:.6f}), so their "
            "probabilities mean nothing; if other words do not help, the text tower has collapsed: run clapedge doctor"
        )
    if alike.highest > HIGHEST_COSINE:
        one, other = (labels[distinct[row]].name for row in alike.nearest)
        return (
            f"the labels {one!r} and {other!r} have nearly the same embedding (cosine {alike.highest:.6f}), so their "
            "order is chance; word one of them differently, or make them one label"
        )
    return None
