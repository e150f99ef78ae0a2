"""The file of several sources: a key for every option, what is said of mistakes, and what it means."""

import json
from pathlib import Path
from typing import Any

import click
import jsonschema  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner

from clapedge.cli import cli
from clapedge.cli.listen import listen
from clapedge.cli.post_file import ENGINE_KEYS, NOT_KEYS, OWN_KEYS, keys_of, read_post, schema
from clapedge.errors import UsageError

ONE = '[sources.yard]\nsource = "mic"\n'

GIVEN: dict[str, tuple[Any, list[str]]] = {
    "label": (["owl", "fox"], ["-l", "owl", "-l", "fox"]),
    "labels": ("city", ["--labels", "city"]),
    "rate": (16_000, ["--rate", "16000"]),
    "gate": (-50, ["--gate", "-50"]),
    "hop": (0.5, ["--hop", "0.5"]),
    "multi": (True, ["--multi"]),
    "spool_sync": (False, ["--no-spool-sync"]),
    "on_event": ("./notify.sh 'all of it'", ["--on-event", "./notify.sh 'all of it'"]),
    "tower": ("whole", ["--tower", "whole"]),
    "levels": (True, ["--levels"]),
    "hours": ("22:00-06:00", ["--hours", "22:00-06:00"]),
    "spool_age": (60, ["--spool-age", "60"]),
    "learn": ("quiet.npz", ["--learn", "quiet.npz"]),
}
"""Values in the file, and the same ones on the command line."""


@pytest.fixture
def write(tmp_path: Path) -> Any:  # noqa: ANN401 - a function
    """Return what writes a file and returns its path."""

    def written(text: str) -> Path:
        path = tmp_path / "post.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def test_the_file_of_the_documentation_is_one(write: Any) -> None:  # noqa: ANN401
    page = (Path(__file__).parents[2] / "docs" / "post.md").read_text(encoding="utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    post = read_post(write(text), listen)
    assert list(post.sources) == ["yard", "hall", "night"]
    assert post.sources["hall"]["words"] == ("dry bearing squeal", "compressor", "alarm horn")
    assert Path(post.sources["yard"]["spool"]).name == "yard"


def test_every_option_of_the_command_has_its_key() -> None:
    options = {parameter.name for parameter in listen.params} - NOT_KEYS
    assert {parameter.name for parameter in keys_of(listen).values()} == options
    assert options >= ENGINE_KEYS | OWN_KEYS
    assert all(key.replace("_", "").isalpha() for key in keys_of(listen))


def test_the_schema_is_one_and_fits_the_file() -> None:
    found = json.loads(CliRunner().invoke(cli, ["listen", "--config-schema"]).stdout)
    jsonschema.Draft202012Validator.check_schema(found)
    one = {key: value for key, (value, _) in GIVEN.items()}
    sources = {"yard": {"source": "mic", **one}, "院子": {"source": "mic:1"}}
    file = {"threads": 2, "status": "s.json", "window": 2.5, "sources": sources}
    jsonschema.validate(file, found)
    for wrong in ({"hopp": 1}, {"hop": "x"}, {"threads": 1}, {"tower": "small"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"sources": {"yard": {"source": "mic", **wrong}}}, found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"sources": {"yard": {}}}, found)


@pytest.mark.parametrize("key", GIVEN)
def test_a_key_means_what_its_option_means(write: Any, key: str) -> None:  # noqa: ANN401
    value, words = GIVEN[key]
    expected = listen.make_context("listen", ["mic", *words]).params
    assert read_post(write(f"{ONE}{key} = {json.dumps(value)}"), listen).sources["yard"] == expected


def test_settings_for_all_are_taken_by_each_but_for_its_own(write: Any) -> None:  # noqa: ANN401
    post = read_post(
        write(
            'threads = 2\nlabels = "city"\nwindow = 2.5\nspool = "spool"\nkeep = "kept"\n'
            '[sources.yard]\nsource = "mic"\nwindow = 5\n'
            '[sources."院子"]\nsource = "mic:1"\nlabel = ["owl"]\nkeep = "owls"\n'
        ),
        listen,
    )
    yard, other = post.sources["yard"], post.sources["院子"]
    assert (yard["window"], other["window"]) == (5, 2.5)
    assert (yard["label_file"], yard["words"], other["label_file"], other["words"]) == ("city", (), None, ("owl",))
    assert [Path(one["spool"]).parts for one in (yard, other)] == [("spool", "yard"), ("spool", "院子")]
    assert (Path(yard["keep"]).parts, other["keep"]) == (("kept", "yard"), "owls")
    assert (post.engine["threads"], yard["threads"]) == (2, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", r"names no source; give each a table: \[sources.yard\]"),
        ("sources = 3", "names no source"),
        ("x = ", "is not TOML"),
        ("[sources.yard]\n", r"sources\.yard has no source"),
        (f"{ONE}hopp = 1", r"sources\.yard: there is no key hopp; did you mean hop\?"),
        (f"nothing = 1\n{ONE}", "there is no key nothing; keys are source, label, labels"),
        (f'{ONE}hop = "1"', r"sources\.yard: hop is '1'; give a number"),
        (f"{ONE}hop = true", "hop is True; give a number"),
        (f"{ONE}channels = 1.5", "channels is 1.5; give an integer"),
        (f"{ONE}channels = 65", "sources.yard: channels: 65 is not in the range"),
        (f'{ONE}label = "owl"', "label is 'owl'; give a list of strings"),
        (f"{ONE}label = [1]", r"label is \[1\]; give a list of strings"),
        (f'{ONE}multi = "yes"', "multi is 'yes'; give a boolean"),
        (f'{ONE}tower = "small"', "tower is 'small'; choose one of auto, whole, short"),
        (f"{ONE}threads = 1", r"sources\.yard\.threads is one for all sources"),
        (f'source = "mic"\n{ONE}', "source is of one source; put it into its table"),
        (f'learn = "a.npz"\n{ONE}', "learn is of one source"),
        ('[sources."a b"]\nsource = "mic"', "sources.a b is not a name"),
        ("[sources]\nyard = 1", "sources.yard is 1; make it a table"),
        (f'{ONE}keep = "k"\n[sources.hall]\nsource = "mic"\nkeep = "k"', "yard and hall have the same keep k"),
        ('[sources.a]\nsource = "-"\n[sources.b]\nsource = "-"', "a and b have the same source -"),
    ],
)
def test_a_mistake_is_said_with_its_key_and_what_is_allowed(write: Any, text: str, found: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match=found) as raised:
        read_post(write(text), listen)
    assert str(raised.value).startswith(str(write(text)))


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\x00")
    (tmp_path / "long.toml").write_bytes(b"#" * 1_000_001)
    faults = {"none.toml": "does not exist", "binary.toml": "not UTF-8", "long.toml": "larger than 1 MB"}
    for name, found in faults.items():
        with pytest.raises(UsageError, match=found):
            read_post(tmp_path / name, listen)
    with pytest.raises(UsageError, match="cannot be read"):
        read_post(tmp_path, listen)


@pytest.mark.parametrize("words", [["mic"], ["--hop", "2"], ["-l", "owl"]])
def test_options_stand_in_the_file_alone(write: Any, words: list[str]) -> None:  # noqa: ANN401
    done = CliRunner().invoke(cli, ["listen", "--config", str(write(ONE)), *words])
    assert isinstance(done.exception, UsageError)
    assert "beside --config" in str(done.exception)


def test_a_source_is_named_or_a_file_of_them() -> None:
    done = CliRunner().invoke(cli, ["listen", "-l", "owl"], env={"CLAPEDGE_SOURCE": ""})
    assert isinstance(done.exception, (UsageError, click.UsageError))
    assert "no source is named" in str(done.exception)


def test_the_schema_describes_each_key() -> None:
    properties = schema(listen)["properties"]
    assert all(one["description"] for key, one in properties.items() if key != "sources")
    assert properties["threads"]["minimum"] == 1
