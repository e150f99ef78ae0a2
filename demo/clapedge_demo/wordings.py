"""What people call each sound, read from `wordings.toml`."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec


class Wordings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Phrases for one kind of sound."""

    train: tuple[str, ...]
    """Phrases that the text tower learns; the first one is the name of the kind."""
    held_out: tuple[str, ...]
    """Phrases that it never sees in training."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The layout of `wordings.toml`."""

    fillers: tuple[str, ...]
    unknown: tuple[str, ...]
    recorded: dict[str, Wordings]
    synthesised: dict[str, Wordings]


_TABLE = msgspec.toml.decode(Path(__file__).with_suffix(".toml").read_bytes(), type=_Table)

RECORDED: Mapping[str, Wordings] = MappingProxyType(_TABLE.recorded)
"""The ten classes of ESC-10, by their labels in `clips.csv`."""

SYNTHESISED: Mapping[str, Wordings] = MappingProxyType(_TABLE.synthesised)
"""The kinds that are only synthesised."""

WORDINGS: Mapping[str, Wordings] = MappingProxyType({**RECORDED, **SYNTHESISED})
"""Every kind that the demo model knows."""

FILLERS = _TABLE.fillers
"""Words that say nothing about the sound."""

UNKNOWN = _TABLE.unknown
"""Phrases for sounds that the model does not know."""
