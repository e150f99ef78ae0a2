"""clapedge: zero-shot sound recognition on the device.

Example:
    >>> from clapedge import Engine
    >>> result = Engine.load().score("kitchen.wav", ["kettle whistle", "smoke alarm"])  # doctest: +SKIP
    >>> result.top.name, result.top.probability  # doctest: +SKIP
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# ONNX Runtime's packages from 1.29 on keep a device id and a record to be sent to their maker, unless this is set first
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from clapedge.engine import Engine as Engine
    from clapedge.errors import ClapEdgeError as ClapEdgeError
    from clapedge.errors import ClapEdgeWarning as ClapEdgeWarning
    from clapedge.labels import EmbeddedLabels as EmbeddedLabels
    from clapedge.labels import Label as Label
    from clapedge.labels import LabelSet as LabelSet
    from clapedge.model.bundle import Bundle as Bundle
    from clapedge.scoring.decision import Score as Score
    from clapedge.scoring.result import Result as Result

_HOMES = {
    "Bundle": "model.bundle",
    "ClapEdgeError": "errors",
    "ClapEdgeWarning": "errors",
    "EmbeddedLabels": "labels",
    "Engine": "engine",
    "Label": "labels",
    "LabelSet": "labels",
    "Result": "scoring.result",
    "Score": "scoring.decision",
}
"""Public names and their modules: imported when first used, so that `clapedge --help` loads no NumPy."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are strings


def __getattr__(name: str) -> object:
    """Import a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
