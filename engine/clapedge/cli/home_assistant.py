"""Home Assistant from the command line: the link to it, and sources as they were switched there."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clapedge.cli.sessions import SourceSettings, sources_of, tls_files
from clapedge.errors import ClapEdgeError, UsageError

if TYPE_CHECKING:
    from clapedge.engine import Engine
    from clapedge.live.home_assistant.link import HomeAssistantLink
    from clapedge.live.records import EventSink

logger = logging.getLogger("clapedge.live")

STATE_FILE = "home_assistant.json"
"""What was switched, beside the settings or in the working directory."""


def open_link(
    options: Mapping[str, Any], engine_of: "Callable[[], Engine]", folder: Path
) -> "HomeAssistantLink | None":
    """Return the link to Home Assistant, if it is asked for.

    Args:
        options: of the whole process, by the names of click's parameters of `clapedge listen`.
        engine_of: loads the engine, once.
        folder: where the file of what was switched is by default.

    Raises:
        UsageError: the broker's address, or the file, cannot be used; or there is no link that another option is for.
        StorageError: the file cannot be written.
    """
    check_link(options)
    if not options["home_assistant"]:
        return None
    from clapedge.live.home_assistant.link import HomeAssistantLink
    from clapedge.live.home_assistant.memory import Memory
    from clapedge.live.mqtt_connection import BrokerAddress

    address = BrokerAddress.parse(options["home_assistant"], tls_files(options))
    memory = Memory(Path(options["home_assistant_state"] or folder / STATE_FILE))
    return HomeAssistantLink(address, memory, _choices(options, engine_of))


def check_link(options: Mapping[str, Any]) -> None:
    """Raise `UsageError` if options are given for a link that is not asked for."""
    for name in ("home_assistant_state", "select_labels"):
        if options[name] and not options["home_assistant"]:
            raise UsageError(f"--{name.replace('_', '-')} is for --home-assistant, which is not given")


def switched_sources(
    path: Path | None,
    sources: Mapping[str, Mapping[str, Any]],
    engine_of: "Callable[[], Engine]",
    outputs: "tuple[EventSink, ...]",
    link: "HomeAssistantLink | None",
) -> dict[str, SourceSettings]:
    """Return several sources, each with the labels that were selected for it; what cannot be used is given up.

    Raises:
        ClapEdgeError: one cannot be used as its settings say; the message begins with the file and its name.
    """
    found: dict[str, SourceSettings] = {}
    for name, options in sources.items():
        chosen = link.chosen(name) if link else None
        if link and chosen:
            switched = {**options, "words": (), "template": None, "label_file": chosen}
            try:
                found |= sources_of(path, {name: switched}, engine_of, outputs)
            except ClapEdgeError as error:
                logger.warning("%s; %s goes on with the labels of its settings", error, name)
            else:
                continue
        found |= sources_of(path, {name: options}, engine_of, outputs)
        if link and chosen:
            link.memory.give_up(name, chosen)
    return found


def _choices(options: Mapping[str, Any], engine_of: "Callable[[], Engine]") -> tuple[str, ...]:
    """Return the label sets that can be selected: those that are named, else the stored ones and the shipped ones."""
    from clapedge.labels import shipped_sets

    named: tuple[str, ...] = tuple(options["select_labels"])
    if named:
        return named
    bundle = engine_of().bundle
    shipped = shipped_sets() if bundle.files("text") else {}  # without a text tower words cannot be embedded
    return tuple(sorted({*bundle.label_sets, *shipped}))
