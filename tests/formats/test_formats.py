"""Formats that ffmpeg and sox write, read in every way; the documentation's table is made of the same list."""

from pathlib import Path

import pytest
from tests.formats.formats import FORMATS, SECONDS, Format, Outcome, make_base, missing_tools, try_format

DOCUMENT = Path(__file__).parents[2] / "docs" / "measured" / "audio.md"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = missing_tools()
    if reason:
        pytest.skip(f"making recordings in other formats {reason}")
    directory = tmp_path_factory.mktemp("formats")
    make_base(directory)
    return directory


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.file)
def test_a_format_is_read_as_ffmpeg_reads_it_and_seeking_changes_nothing(form: Format, workshop: Path) -> None:
    outcome: Outcome = try_format(form, workshop)
    assert abs(outcome.length - SECONDS) < 0.06  # an encoder's delay and padding, at most two frames
    assert outcome.off <= form.off
    assert outcome.seek <= form.seek
    assert outcome.warnings == ()


def test_the_documentation_lists_the_formats_that_were_tried() -> None:
    rows = [line.split("|")[1:3] for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    listed = {(name.strip(), encoding.strip()) for name, encoding in rows}
    assert {(form.name, form.encoding) for form in FORMATS} <= listed
