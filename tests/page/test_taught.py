"""The page with a label set that clips taught: it is scored by its name, and its sounds are no words."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import soundfile
from tests.page.conftest import Opens, address_of
from tests.teach.sounds import RATE, render

from clapedge import Engine, LabelSet, Lesson

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a taught set, and return the address."""
    for extra in ("gradio", "uvicorn"):
        pytest.importorskip(extra, reason=f"{extra} is not installed: pip install 'clapedge[web]'")
    labels = tmp_path_factory.mktemp("labels") / "yard.npz"
    with pytest.warns(match="demo model"):
        engine = Engine.load(threads=1)
    with engine:
        clips = [(render("warble", take), RATE) for take in range(3)]
        engine.teach(Lesson("gate", clips), LabelSet.of(["rain", "siren", "door knock"])).save(labels)
    command = [sys.executable, "-m", "clapedge.cli", "serve", "--port", "0", "--threads", "2", "--labels", str(labels)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            yield address_of(process.stderr)
        finally:
            process.terminate()
            process.wait()


def names(page: "Page") -> list[str]:
    """Return the labels that are written on the page."""
    return [text.split("\n")[0] for text in page.locator("#tags .word").all_inner_texts()]


def score(page: "Page", path: Path) -> str:
    """Score a recording, and return the best label."""
    page.set_input_files("#file", path)
    page.wait_for_selector("#figure:not([hidden]) #heard:not([hidden])")
    page.wait_for_selector("#bars li")
    return page.inner_text("#bars li:first-child .name")


def test_a_taught_sound_is_recognised(opens: Opens, tmp_path: Path) -> None:
    page, path = opens(), tmp_path / "warble.wav"
    soundfile.write(path, render("warble", 7), RATE, subtype="FLOAT")
    assert names(page) == ["rain", "siren", "door knock", "gate"]
    assert score(page, path) == "gate"
    page.click("#history li button")
    assert names(page) == ["rain", "siren", "door knock", "gate"]
    assert page.locator("#presets [aria-pressed=true]").count() == 1


def test_a_taught_sound_does_not_stay_as_a_word(opens: Opens, tmp_path: Path) -> None:
    page, path = opens(), tmp_path / "warble.wav"
    soundfile.write(path, render("warble", 7), RATE, subtype="FLOAT")
    page.fill("#label", "dog barking")
    page.press("#label", "Enter")
    assert names(page) == ["rain", "siren", "door knock", "dog barking"]
    assert "clips taught" in page.inner_text("#error")
    assert score(page, path) != "gate"
    page.locator("#presets button", has_text="yard").click()
    assert names(page) == ["rain", "siren", "door knock", "gate"]
    assert page.locator("#error:not([hidden])").count() == 0
    page.click("#score-button")
    page.wait_for_function("document.querySelector('#bars li:first-child .name').innerText === 'gate'")
