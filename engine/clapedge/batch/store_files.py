"""The files of an embedding store, and how they are read.

`archive.json` records how the embeddings were made, `embeddings.npy` holds them, one row a clip, and `index.jsonl` has
one line a recording. The store is our own because no format at hand is appended to, survives a kill at any byte, and
is read by NumPy and by a JSON parser.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from clapedge.batch.fingerprint import Stamp
from clapedge.errors import ClapEdgeError, StorageError
from clapedge.features.front_end import FrontEnd, Frontend
from clapedge.features.strips import Strips, tower_name
from clapedge.model.space import clip_space
from clapedge.scoring.result import Coverage, Provenance
from clapedge.validation import describe_mismatch

SCHEMA_VERSION = 1
"""Version of the layout; a store with another one is not read."""

CONFIG_NAME, ROWS_NAME, INDEX_NAME = "archive.json", "embeddings.npy", "index.jsonl"

HEADER_BYTES = 128
"""Of `embeddings.npy`: enough for any shape, so that it can be rewritten in place."""

OptionValue: TypeAlias = str | int | float | None

Decoded = TypeVar("Decoded")


class EmbeddingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How embeddings were made: everything that changes them, and their provenance."""

    schema: int = SCHEMA_VERSION
    model: str
    weights: str
    variant: str
    provider: str
    audio_tower: str
    """SHA-256 of the audio tower's file, or of both of a short one, see `Manifest.tower_digest`."""
    text_tower: str | None
    """SHA-256 of the text tower's FP32 file: labels embedded by another one do not fit."""
    embedding_size: int
    front_end: FrontEnd
    fusion: str
    options: dict[str, OptionValue] = msgspec.field(name="hearing")
    """The fields of `RecordingOptions` that were given."""
    frontend: Literal["device"] | msgspec.UnsetType = msgspec.UNSET
    """Set where a GPU made the log-mels."""
    space: str = ""
    """Name of the embedding space, see `clapedge.model.space`; always computed, as older stores do not hold it."""

    def __post_init__(self) -> None:
        """Name the embedding space."""
        space = clip_space(
            text_tower=self.text_tower, audio_tower=self.audio_tower, front_end=self.front_end, variant=self.variant
        )
        msgspec.structs.force_setattr(self, "space", space)

    @property
    def provenance(self) -> Provenance:
        """What made the embeddings, as results carry it."""
        frontend: Frontend = "numpy" if self.frontend is msgspec.UNSET else "device"
        tower = tower_name(msgspec.convert(self.options.get("strips"), Strips | None))
        return Provenance(self.model, self.weights, self.variant, self.provider, self.space, frontend, tower)

    @property
    def row_bytes(self) -> int:
        """Bytes of one embedding."""
        return 4 * self.embedding_size

    def difference(self, other: "EmbeddingConfig") -> str | None:
        """Return what keeps embeddings of two kinds from being mixed, and both of its values; None if nothing does.

        That is another space, or another provider or option: a row says of neither which one made it.
        """
        mine, its = _flat(self), _flat(other)
        apart = self.space != other.space
        deciding = mine.keys() | its.keys() if apart else {"provider", "fusion", *self.options, *other.options}
        name = next((name for name in {**mine, **its} if name in deciding and mine.get(name) != its.get(name)), None)
        if name is None:
            return None
        spaces = f": its embedding space is {self.space}, not {other.space}" if apart else ""
        return f"{name} {mine.get(name)}, not {its.get(name)}{spaces}"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A recording in a store: its first row, the span of each of its rows and of all of them, in seconds.

    Flat, and unknown to the garbage collector, which would go through 100,000 of them again and again.
    """

    file: str
    stamp: Stamp
    sha256: str
    row: Annotated[int, msgspec.Meta(ge=0)]
    spans: Annotated[tuple[tuple[float, float], ...], msgspec.Meta(min_length=1)]
    start: float
    end: float
    of: float
    warnings: tuple[str, ...]

    @property
    def rows(self) -> range:
        """The rows of its clips."""
        return range(self.row, self.row + len(self.spans))

    @property
    def coverage(self) -> Coverage:
        """The span that the clips cover."""
        return Coverage(self.start, self.end, self.of)


class Index(NamedTuple):
    """What is left of the index of a store.

    Attributes:
        entries: the lines that are whole and have their rows.
        size: bytes up to the end of the last of them.
        unusable: where the lines begin that are no use, and their bytes without the line feed.
        lost: how many of those are whole, and have no rows, as after a power failure.
    """

    entries: list[Entry]
    size: int
    unusable: list[tuple[int, int]]
    lost: int

    @property
    def damaged(self) -> int:
        """How many lines are not what was written."""
        return len(self.unusable) - self.lost


@contextmanager
def storage_errors(directory: Path) -> Iterator[None]:
    """Turn an error of the system into a `StorageError` about a store."""
    try:
        yield
    except ClapEdgeError:  # some of them are OSErrors too
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{directory} cannot hold embeddings ({reason}); make room, or check the path and its permissions"
        ) from error


def read_config(directory: Path) -> EmbeddingConfig | None:
    """Read how the embeddings of a store were made; None if there is no store."""
    try:
        raw = (directory / CONFIG_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    config = _decode(raw, msgspec.json.Decoder(EmbeddingConfig), directory / CONFIG_NAME)
    if config.schema != SCHEMA_VERSION:
        raise StorageError(f"{directory} has layout {config.schema}, this clapedge reads {SCHEMA_VERSION}; embed again")
    return config


def read_index(directory: Path, config: EmbeddingConfig) -> Index:
    """Read the index of a store; a line that is damaged costs its recording alone."""
    try:
        lines = (directory / INDEX_NAME).read_bytes().splitlines(keepends=True)
        rows = ((directory / ROWS_NAME).stat().st_size - HEADER_BYTES) // config.row_bytes
    except FileNotFoundError:  # killed before they were made
        return Index([], 0, [], 0)
    decoder = msgspec.json.Decoder(Entry)
    entries: list[Entry] = []
    unusable: list[tuple[int, int]] = []
    size = lost = end = 0
    for line in lines:
        begin, end = end, end + len(line)
        if line.isspace() or not line.endswith(b"\n"):  # what a writer made of a damaged line; what a kill cut off
            continue
        entry = _entry(line, decoder)
        if entry is not None and entry.rows.stop <= rows:
            entries.append(entry)
            size = end
        else:
            unusable.append((begin, len(line) - 1))
            lost += entry is not None
    return Index(entries, size, unusable, lost)


def _entry(line: bytes, decoder: msgspec.json.Decoder[Entry]) -> Entry | None:
    """Decode a line of an index; None if it is damaged."""
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def is_empty(directory: Path) -> bool:
    """Return whether nothing was added to a store yet."""
    index = directory / INDEX_NAME
    return not index.exists() or index.stat().st_size == 0


def _decode(raw: bytes, decoder: msgspec.json.Decoder[Decoded], path: Path) -> Decoded:
    """Decode JSON of a store.

    Raises:
        StorageError: it is damaged.
    """
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = describe_mismatch(error) if isinstance(error, msgspec.MsgspecError) else error
        raise StorageError(f"{path} is damaged ({reason}); delete {path.parent} and embed again") from error


def _flat(config: EmbeddingConfig) -> dict[str, object]:
    """Return how embeddings were made, an option each."""
    entries: dict[str, Any] = msgspec.to_builtins(config)
    parts = entries.pop("front_end"), entries.pop("hearing")
    return {**entries, **parts[0], **parts[1]}
