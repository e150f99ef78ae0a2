"""The file of `clapedge listen --config`: for every option of the command a key, for all sources or for one."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from clapedge.cli.options import STANDARD_INPUT
from clapedge.errors import UsageError
from clapedge.terminal import printable
from clapedge.validation import describe_mismatch

SOURCES = "sources"
"""The table of tables, one a source."""

NAME = re.compile(r"[\w][\w-]{0,39}")
"""Names of sources, which become names of folders."""

NOT_KEYS = frozenset({"config", "config_schema"})
"""Options of the command that name the file itself."""

ENGINE_KEYS = frozenset(
    {
        *("bundle", "provider", "provider_options", "precision", "self_check", "frontend"),
        *("threads", "spinning", "status", "metrics", "home_assistant", "home_assistant_state", "select_labels"),
    }
)
"""Parameters that are one for the whole process: its engine and its status."""

TLS_KEYS = ("ca", "cert")
"""Parameters for addresses, that of Home Assistant's broker too."""

OWN_KEYS = frozenset({"source", "learn"})
"""Parameters that each source has for itself."""

FOLDER_KEYS = ("keep", "spool", "journal")
"""Parameters that name a directory; given for all sources, each has a folder of its name in it."""

LABEL_KEYS = ("words", "label_file", "template")
"""Parameters that say what is listened for; a source with one of them takes none of those for all."""

MOST_BYTES = 1_000_000
"""A longer file is a recording or an endless device, named by mistake."""

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class PostFile:
    """What the file says, as click's parameters of `clapedge listen`, by their names.

    Attributes:
        engine: those of the process; the others have their defaults.
        sources: all of them, by source.
    """

    engine: Settings
    sources: Mapping[str, Settings]


def read_post(path: Path, command: click.Command) -> PostFile:
    """Read a file of sources.

    Args:
        path: the file, TOML.
        command: `clapedge listen`, whose options are the keys.

    Raises:
        UsageError: it cannot be read, or a key or a value means nothing; the message names both, and what is allowed.
    """
    tables = _decoded(path)
    keys = keys_of(command)
    named = tables.pop(SOURCES, None)
    if not isinstance(named, dict) or not named:
        raise UsageError(f'{path} names no source; give each a table: [{SOURCES}.yard] with source = "mic"')
    shared = _by_parameter(tables, keys, f"{path}")
    if own := next((name for name in shared if name in OWN_KEYS), None):
        raise UsageError(f"{path}: {_key(keys, own)} is of one source; put it into its table [{SOURCES}.NAME]")
    found: dict[str, Settings] = {}
    for name, table in named.items():
        found[name] = _source(path, name, table, shared, keys, command)
    _check_distinct(path, found)
    linked = TLS_KEYS if "home_assistant" in shared or os.environ.get("CLAPEDGE_HOME_ASSISTANT") else ()
    engine = {name: value for name, value in shared.items() if name in ENGINE_KEYS or name in linked}
    return PostFile(_parsed(command, {**engine, "source": STANDARD_INPUT}, keys, f"{path}"), found)


def keys_of(command: click.Command) -> dict[str, click.Parameter]:
    """Return the parameters of the command by their keys: the names of their options, without dashes in front."""
    return {
        max(parameter.opts, key=len).lstrip("-").replace("-", "_"): parameter
        for parameter in command.params
        if parameter.name not in NOT_KEYS
    }


def schema(command: click.Command) -> dict[str, Any]:
    """Return the JSON schema of the file."""
    kinds = {key: _schema_of(parameter) for key, parameter in keys_of(command).items()}
    names = {key: parameter.name for key, parameter in keys_of(command).items()}
    own = {key: kind for key, kind in kinds.items() if names[key] not in ENGINE_KEYS}
    shared = {key: kind for key, kind in kinds.items() if names[key] not in OWN_KEYS}
    one = {"type": "object", "properties": own, "required": ["source"], "additionalProperties": False}
    # names may be of any script, which the regular expressions of JSON schema do not know
    several = {"type": "object", "minProperties": 1, "propertyNames": {"maxLength": 40}, "additionalProperties": one}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "clapedge listen --config",
        "type": "object",
        "properties": {**shared, SOURCES: several},
        "required": [SOURCES],
        "additionalProperties": False,
    }


def _decoded(path: Path) -> dict[str, Any]:
    """Return the tables of the file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} is larger than {MOST_BYTES / 1e6:g} MB; name a file of settings")
        return msgspec.toml.decode(path.read_text(encoding="utf-8"), type=dict[str, Any])
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; `clapedge listen --config-schema` prints what it may hold") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{path} cannot be read ({reason}); name a file of settings") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} is not TOML ({describe_mismatch(error)}); mend it there") from error


def _source(
    path: Path, name: str, table: object, shared: Settings, keys: Mapping[str, click.Parameter], command: click.Command
) -> Settings:
    """Return the settings of one source."""
    where = f"{path}: {SOURCES}.{printable(name)}"
    if not NAME.fullmatch(name):
        raise UsageError(f"{where} is not a name; take up to 40 letters, digits, - and _")
    if not isinstance(table, dict):
        raise UsageError(f"{where} is {table!r:.40}; make it a table: [{SOURCES}.{name}]")
    own = _by_parameter(table, keys, where)
    if of_all := next((key for key in own if key in ENGINE_KEYS), None):
        raise UsageError(f"{where}.{_key(keys, of_all)} is one for all sources; put it above the first table")
    if "source" not in own:
        raise UsageError(f'{where} has no source; give it one, such as source = "mic" or "rtsp://camera.local/stream"')
    linked = "home_assistant"  # which certificates for all may be for
    inherited = {key: value for key, value in shared.items() if key not in ENGINE_KEYS or key == linked}
    if any(key in own for key in LABEL_KEYS):
        inherited = {key: value for key, value in inherited.items() if key not in LABEL_KEYS}
    folders = {key: os.fspath(Path(inherited[key]) / name) for key in FOLDER_KEYS if key in inherited}
    return _parsed(command, {**inherited, **folders, **own}, keys, where)


def _by_parameter(table: Settings, keys: Mapping[str, click.Parameter], where: str) -> dict[str, Any]:
    """Return the values of a table by parameter, each of the type that its key takes."""
    found = {}
    for key, value in table.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            meant = f"; did you mean {near[0]}?" if near else f"; keys are {', '.join(keys)}"
            raise UsageError(f"{where}: there is no key {printable(key)}{meant}")
        _check_type(value, _schema_of(keys[key]), f"{where}: {key}")
        found[keys[key].name or key] = value
    return found


def _check_type(value: object, expected: Settings, where: str) -> None:
    """Raise if a value is of another type than its key takes."""
    kinds: dict[str, tuple[type, ...]] = {
        "number": (int, float),
        "integer": (int,),
        "boolean": (bool,),
        "string": (str,),
        "array": (list,),
    }
    kind = expected["type"]
    fits = isinstance(value, kinds[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not fits or (kind == "array" and not all(isinstance(one, str) for one in value)):  # type: ignore[attr-defined]
        wanted = "a list of strings" if kind == "array" else f"{'an' if kind == 'integer' else 'a'} {kind}"
        raise UsageError(f"{where} is {value!r:.60}; give {wanted}")
    if "enum" in expected and value not in expected["enum"]:
        raise UsageError(f"{where} is {value!r:.60}; choose one of {', '.join(expected['enum'])}")


def _parsed(command: click.Command, values: Settings, keys: Mapping[str, click.Parameter], where: str) -> Settings:
    """Return all parameters of the command as click makes them of an option for each value."""
    by_name = {parameter.name: (key, parameter) for key, parameter in keys.items()}
    arguments = [word for name, value in values.items() if name != "source" for word in _words(by_name[name][1], value)]
    try:
        return command.make_context(command.name, [*arguments, "--", values["source"]]).params
    except click.UsageError as error:
        parameter = getattr(error, "param", None)
        key = by_name[parameter.name][0] if parameter and parameter.name in by_name else ""
        raise UsageError(f"{where}{': ' if key else ''}{key}: {error.message}") from error


def _words(parameter: click.Parameter, value: Any) -> Iterator[str]:  # noqa: ANN401 - what TOML has
    """Yield an option with its value as it is typed."""
    name = max(parameter.opts, key=len)
    if isinstance(value, bool):
        off = parameter.secondary_opts
        yield from [name] if value else off[:1]
    elif isinstance(value, list):
        yield from (f"{name}={one}" for one in value)
    else:
        yield f"{name}={value}"


def _check_distinct(path: Path, sources: Mapping[str, Settings]) -> None:
    """Raise if two sources would write to the same place, or read standard input."""
    taken: dict[tuple[str, str], str] = {}
    for name, settings in sources.items():
        places = [(key, os.fspath(settings[key])) for key in (*FOLDER_KEYS, "learn") if settings[key]]
        places += [("source", STANDARD_INPUT)] if settings["source"] == STANDARD_INPUT else []
        for place in places:
            if place in taken:
                raise UsageError(
                    f"{path}: {taken[place]} and {name} have the same {place[0]} {place[1]}; give each its own"
                )
            taken[place] = name


def _key(keys: Mapping[str, click.Parameter], name: str) -> str:
    """Return the key of a parameter."""
    return next(key for key, parameter in keys.items() if parameter.name == name)


def _schema_of(parameter: click.Parameter) -> dict[str, Any]:
    """Return the JSON schema of a parameter's value."""
    kind, about = parameter.type, {"description": getattr(parameter, "help", None) or "Where sound comes from."}
    if getattr(parameter, "is_flag", False):
        return {"type": "boolean", **about}
    if parameter.multiple:
        return {"type": "array", "items": {"type": "string"}, **about}
    if isinstance(kind, click.Choice):
        return {"type": "string", "enum": list(kind.choices), **about}
    if isinstance(kind, (click.types.IntParamType, click.types.FloatParamType)):
        bounds = {"minimum": getattr(kind, "min", None), "maximum": getattr(kind, "max", None)}
        number = "integer" if isinstance(kind, click.types.IntParamType) else "number"
        return {"type": number, **{name: bound for name, bound in bounds.items() if bound is not None}, **about}
    return {"type": "string", **about}
