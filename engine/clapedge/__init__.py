"""clapedge: zero-shot audio classification on the device.

Example:
    >>> from clapedge import Engine
    >>> result = Engine.load().score("kitchen.wav", ["kettle whistle", "smoke alarm"])  # doctest: +SKIP
    >>> result.top.name, result.top.probability  # doctest: +SKIP
"""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# ONNX Runtime's packages from 1.29 on keep a device id and a record to be sent to their maker, unless this is set first
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# an application that sets up no logging sees nothing, not even the last resort's lines on stderr
logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from clapedge.audio.options import ReadOptions as ReadOptions
    from clapedge.engine import Engine as Engine
    from clapedge.errors import AudioError as AudioError
    from clapedge.errors import AudioFileNotFoundError as AudioFileNotFoundError
    from clapedge.errors import AudioFormatError as AudioFormatError
    from clapedge.errors import AudioSpanError as AudioSpanError
    from clapedge.errors import BundleDamagedError as BundleDamagedError
    from clapedge.errors import BundleError as BundleError
    from clapedge.errors import BundleNotFoundError as BundleNotFoundError
    from clapedge.errors import ClapEdgeError as ClapEdgeError
    from clapedge.errors import ClapEdgeWarning as ClapEdgeWarning
    from clapedge.errors import GpuLostError as GpuLostError
    from clapedge.errors import GpuMemoryError as GpuMemoryError
    from clapedge.errors import LabelError as LabelError
    from clapedge.errors import MissingExtraError as MissingExtraError
    from clapedge.errors import ModelError as ModelError
    from clapedge.errors import ParityError as ParityError
    from clapedge.errors import ProviderError as ProviderError
    from clapedge.errors import ProviderWarning as ProviderWarning
    from clapedge.errors import StorageError as StorageError
    from clapedge.errors import UsageError as UsageError
    from clapedge.events.event import Event as Event
    from clapedge.events.event import LiveEvent as LiveEvent
    from clapedge.events.rules import EventRule as EventRule
    from clapedge.events.timeline import Timeline as Timeline
    from clapedge.features.clips import ClipOptions as ClipOptions
    from clapedge.labels import EmbeddedLabels as EmbeddedLabels
    from clapedge.labels import Label as Label
    from clapedge.labels import LabelSet as LabelSet
    from clapedge.model.bundle import Bundle as Bundle
    from clapedge.scoring.decision import DecidedScore as DecidedScore
    from clapedge.scoring.decision import Decision as Decision
    from clapedge.scoring.decision import Score as Score
    from clapedge.scoring.result import Coverage as Coverage
    from clapedge.scoring.result import Provenance as Provenance
    from clapedge.scoring.result import Result as Result
    from clapedge.teaching.teacher import Lesson as Lesson

_MODULES = {
    "audio.options": ("ReadOptions",),
    "engine": ("Engine",),
    "errors": (
        *("AudioError", "AudioFileNotFoundError", "AudioFormatError", "AudioSpanError"),
        *("BundleDamagedError", "BundleError", "BundleNotFoundError"),
        *("ClapEdgeError", "ClapEdgeWarning", "GpuLostError", "GpuMemoryError", "LabelError", "MissingExtraError"),
        *("ModelError", "ParityError", "ProviderError", "ProviderWarning", "StorageError", "UsageError"),
    ),
    "events.event": ("Event", "LiveEvent"),
    "events.rules": ("EventRule",),
    "events.timeline": ("Timeline",),
    "features.clips": ("ClipOptions",),
    "labels": ("EmbeddedLabels", "Label", "LabelSet"),
    "model.bundle": ("Bundle",),
    "scoring.decision": ("DecidedScore", "Decision", "Score"),
    "scoring.result": ("Coverage", "Provenance", "Result"),
    "teaching.teacher": ("Lesson",),
}
"""Modules and their public names, imported when first used, so that `clapedge --help` loads no NumPy."""

_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are strings


def __getattr__(name: str) -> object:
    """Import a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted(__all__)
