"""The options of an export, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from clapedge.errors import LabelError, UsageError
from clapedge.labels import LabelSet, find_file
from clapedge.model.bundle import Variant


@dataclass(frozen=True)
class ExportOptions:
    """What a bundle will hold.

    Attributes:
        labels: label files to embed and store as `labels/NAME.npz`, NAME being that of the file.
        precisions: variants of both towers.
        short: whether there are short audio towers too, for sounds of at most 5 s, in FP32 and INT8.
        text: whether the bundle holds the text tower; without it, only embedded labels can be scored.
        batch: clips that the audio tower takes at once, None for any number.
        revision: branch, tag or commit of a model on the hub.
        tokenizer: `tokenizer.json`, or a directory that holds one, instead of the checkpoint's own.
        seed: of the weights of a random model.
    """

    labels: Sequence[Path] = ()
    precisions: Sequence[Variant] = ("fp32",)
    short: bool = True
    text: bool = True
    batch: int | None = None
    revision: str | None = None
    tokenizer: Path | None = None
    seed: int = 0
    label_sets: dict[str, LabelSet] = field(init=False, repr=False)
    """The contents of the label files, by name."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The precisions in the order in which they are made."""
        return tuple(variant for variant in get_args(Variant) if variant in self.precisions)

    def __post_init__(self) -> None:
        """Raise if a value is impossible, and read the label files."""
        unknown = [name for name in self.precisions if name not in get_args(Variant)]
        if unknown or not self.precisions or len(set(self.precisions)) < len(self.precisions):
            found = ", ".join(self.precisions) or "missing"
            raise UsageError(f"precisions are {found}; name each once, of {', '.join(get_args(Variant))}")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"batch is {self.batch}; give a number from 1 on, or dynamic")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}; give a number from 0 on")
        files = [find_file(path) for path in self.labels]
        sets = {path.stem: LabelSet.from_file(path) for path in files}
        if len(sets) < len(self.labels):
            raise LabelError("two label files have the same name; rename one, as the bundle stores them by name")
        object.__setattr__(self, "label_sets", sets)
