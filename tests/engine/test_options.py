"""Options have one source: Python's keywords, the command line and the service follow the dataclasses of the engine."""

from dataclasses import MISSING, fields
from typing import Any, get_args, get_type_hints

import click
import pytest

from clapedge.audio import ReadOptions
from clapedge.cli.options import RECORDING_OPTIONS
from clapedge.cli.score import score
from clapedge.cli.timeline import timeline
from clapedge.events.rules import EventRule
from clapedge.features.clips import ClipOptions
from clapedge.pipeline import READ_FIELDS, ReadKeywords, RecordingOptions
from clapedge.scoring.decision import THRESHOLD, Decision

PYTHON_ONLY = {"sample_rate", "strips"}
"""Fields that are not offered elsewhere: files carry their sample rate, and `--tower` chooses the strips."""


def defaults(*sources: type[Any]) -> dict[str, object]:
    """Return the fields of dataclasses with their defaults."""
    found = {field.name: field.default for source in sources for field in fields(source)}
    assert MISSING not in found.values()
    return found


def given(command: click.Command) -> dict[str, Any]:
    """Return the values of a command's options when none is given."""
    return dict(command.make_context("clapedge", ["a.wav"]).params)


@pytest.fixture(scope="module")
def schemas() -> Any:  # noqa: ANN401 - a module of an extra
    """Return the service's parameters, or skip."""
    return pytest.importorskip("clapedge.serve.schemas", reason="clapedge[web] is not installed")


def test_pythons_keywords_are_the_fields_with_their_types() -> None:
    read, clip = get_type_hints(ReadOptions), get_type_hints(ClipOptions)
    assert get_type_hints(ReadKeywords) == read
    assert frozenset(read) == READ_FIELDS
    assert not read.keys() & clip.keys()
    assert get_type_hints(RecordingOptions) == {name: kind for name, kind in (read | clip).items() if name != "fusion"}


def test_the_command_line_offers_every_field_with_its_default_and_its_choices() -> None:
    expected = {name: value for name, value in defaults(ReadOptions, ClipOptions).items() if name not in PYTHON_ONLY}
    assert {*RECORDING_OPTIONS, "fusion"} == expected.keys()
    values = given(score)
    assert {name: values[name] for name in expected} == expected
    types = get_type_hints(ReadOptions) | get_type_hints(ClipOptions)
    choices = {option.name: option.type.choices for option in score.params if isinstance(option.type, click.Choice)}
    for name in ("resample", "window", "pad", "fusion"):
        assert tuple(choices[name]) == get_args(types[name])


def test_the_service_offers_every_field_with_its_default_and_its_type(schemas: Any) -> None:  # noqa: ANN401
    expected = defaults(ReadOptions, ClipOptions)
    parameters = schemas.RecordingParameters.model_fields
    assert parameters.keys() == expected.keys() - PYTHON_ONLY - {"fusion"}
    assert {name: info.default for name, info in parameters.items()} == {name: expected[name] for name in parameters}
    types = get_type_hints(ReadOptions) | get_type_hints(ClipOptions)
    chosen = get_type_hints(schemas.RecordingParameters)
    for name in ("resample", "window", "pad"):
        assert chosen[name] == types[name]


def test_decisions_have_the_same_fields_and_defaults_everywhere(schemas: Any) -> None:  # noqa: ANN401
    expected = defaults(Decision)
    assert expected["threshold"] == THRESHOLD
    expected["threshold"] = None  # so that a threshold without `multi` is noticed
    values, parameters = given(score), schemas.ScoreParameters.model_fields
    assert {name: values[name] for name in expected} == expected
    assert {name: parameters[name].default for name in expected} == expected


def test_timelines_have_the_same_fields_everywhere_and_defaults_but_for_flickers(schemas: Any) -> None:  # noqa: ANN401
    values, parameters = given(timeline), schemas.TimelineParameters.model_fields
    expected = defaults(EventRule) | {name: values[name] for name in ("start", "duration", "window", "hop")}
    assert {name: parameters[name].default for name in expected} == expected
    quiet = {"min_duration": 1.0, "merge_gap": 2.0}  # of the command alone: a newcomer shall meet no flickers
    assert {name: values[name] for name in expected} == expected | quiet
