"""The page in a browser: what a person does, and what they then see."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from clapedge.audio import SAMPLE_RATE, read

if TYPE_CHECKING:
    from playwright.sync_api import Page

Opens = Callable[..., "Page"]
Recordings = Callable[[str, str], Path]

CLIPS = Path(__file__).parents[2] / "engine" / "clapedge" / "demo_clips"
TOO_MANY_BYTES = 60_000_000


def write_labels(page: "Page", labels: Sequence[str]) -> None:
    """Replace the labels that the page begins with by others, typed."""
    while page.locator("#tags .remove").count():
        page.locator("#tags .remove").first.click()
    for label in labels:
        page.fill("#label", label)
        page.press("#label", "Enter")


def first_label(page: "Page") -> str:
    """Return the best label on the page, once the recording is scored and drawn."""
    page.wait_for_selector("#bars li")
    page.wait_for_selector("#figure:not([hidden]) #heard:not([hidden])")
    assert page.inner_text("#bars li:first-child .name") in page.inner_text("#verdict strong")
    return page.inner_text("#bars li:first-child .name")


@pytest.mark.parametrize(
    ("locale", "suffix", "clip", "labels", "expected"),
    [
        ("en-US", "wav", "siren", ["dog barking", "siren, rain", "door knock"], "siren"),
        ("zh-CN", "mp3", "door-knock", ["敲门", "雨声，警笛", "犬吠"], "敲门"),
        ("zh-CN", "m4a", "church-bell", ["钟 = church bell", "rain", "电话铃声"], "钟"),
    ],
)
def test_an_uploaded_recording_gets_the_right_first_label(
    opens: Opens, recordings: Recordings, locale: str, suffix: str, clip: str, labels: Sequence[str], expected: str
) -> None:
    page = opens(locale)
    write_labels(page, labels)
    page.set_input_files("#file", recordings(clip, suffix))
    assert first_label(page) == expected


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_each_demo_clip_gets_the_label_it_is_named_for(opens: Opens, locale: str) -> None:
    page = opens(locale)
    english = ("bird", "church", "door", "siren", "smoke", "telephone")
    chinese = ("鸟鸣", "教堂钟声", "敲门", "警笛", "烟雾报警", "电话铃声")
    for number, name in enumerate(english if locale == "en-US" else chinese, 1):
        page.click(f"#clips li:nth-child({number}) button")
        page.wait_for_selector(f"#clips li:nth-child({number}) button[aria-pressed=true]")
        assert first_label(page).startswith(name)


def test_a_recording_that_is_too_large_is_refused_before_it_is_sent(opens: Opens, tmp_path: Path) -> None:
    page, large = opens(), tmp_path / "large.wav"
    with large.open("wb") as stream:
        stream.truncate(TOO_MANY_BYTES)
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(asked.url))
    page.set_input_files("#file", large)
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == (
        "large.wav has 60 MB, and this server takes 50 MB at most. Choose a shorter or a compressed one."
    )
    assert sent == []


def test_damaged_audio_is_reported_in_the_language_of_the_page_with_the_reason(opens: Opens, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"RIFF\x00\x00\x00\x00WAVE" + bytes(range(256)) * 20)
    page = opens("zh-CN")
    page.set_input_files("#file", damaged)
    page.wait_for_selector("#error:not([hidden])")
    assert re.match("无法读取这段录音.*damaged.wav", page.inner_text("#error"))


def test_without_labels_or_without_a_recording_the_page_says_what_is_missing(opens: Opens) -> None:
    page = opens()
    page.click("#score-button")
    assert page.inner_text("#error").startswith("There is no recording yet.")
    write_labels(page, [])
    page.click("#clips li:first-child button")
    page.wait_for_selector("#figure:not([hidden])")
    page.click("#score-button")
    assert page.inner_text("#error").startswith("There are no labels yet.")
    assert page.evaluate("document.activeElement.id") == "label"


def test_the_language_is_the_browsers_until_another_is_chosen_and_stays_so(opens: Opens) -> None:
    page = opens("zh-TW")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.inner_text("#score-button") == "开始识别"
    page.click("#clips li:nth-child(3) button")
    assert first_label(page) == "敲门"
    page.click("[data-language=en]")
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.inner_text("#score-button") == "Score"
    assert page.inner_text("#tags li:first-child .word") == "bird chirping"
    page.reload()
    page.wait_for_selector("#tags li")
    assert page.inner_text("#score-button") == "Score"


def test_advice_comes_while_a_label_is_typed_and_goes_with_it(opens: Opens) -> None:
    page = opens()
    write_labels(page, ["rain", "siren"])
    page.locator("#label").press_sequentially("no alarm")
    page.wait_for_selector("#advice:has-text('negates')")
    assert "quiet room tone" in page.inner_text("#advice")
    page.fill("#label", "church bell")
    page.wait_for_selector("#advice", state="hidden")


def test_two_labels_get_a_hidden_background_at_a_press(opens: Opens) -> None:
    page = opens("zh-CN")
    write_labels(page, ["犬吠", "敲门"])
    page.click("#advice button")
    assert page.inner_text("#tags li.quiet .word").startswith("背景")
    page.click("#clips li:nth-child(3) button")
    assert first_label(page) == "敲门"
    assert page.locator("#bars li").count() == 2


def test_a_set_that_ships_brings_its_labels_with_prompts_and_its_hidden_one(opens: Opens) -> None:
    page = opens()
    page.click("#presets button:has-text('Home')")
    page.click("#clips button:has-text('Smoke alarm')")
    assert first_label(page) == "smoke alarm"
    assert page.locator("#tags li.quiet").count() == 1
    assert "background" not in page.inner_text("#bars")


def test_a_long_recording_gets_a_timeline_and_its_events(opens: Opens, tmp_path: Path) -> None:
    clips = [read(CLIPS / f"{name}.flac").samples for name in ("siren", "door-knock")]
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([np.tile(clips[0], 4), np.tile(clips[1], 4)]), SAMPLE_RATE)
    page = opens()
    page.set_input_files("#file", path)
    page.wait_for_selector("#events table")
    assert page.locator("#events tbody tr td:first-child").all_inner_texts() == ["siren", "door knock"]
    assert page.locator("#timeline svg").count() == page.locator("#tags li").count()
    page.click("#events tbody tr:last-child button")
    page.wait_for_function("document.querySelector('#player').currentTime > 15")
    assert "Only 0 to 10 s decided this" in page.inner_text("#remarks")
    assert "window=" not in page.inner_text("#remarks")


def test_a_span_that_is_drawn_is_the_one_that_is_scored(opens: Opens) -> None:
    page = opens()
    page.click("#clips li:nth-child(4) button")
    first_label(page)
    box = page.locator(".drawn").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.up()
    page.wait_for_selector("#facts:has-text('heard 1–2 s of 4 s')")
    assert page.input_value("#start") == "1.0"


def test_the_microphone_makes_a_recording(opens: Opens) -> None:
    page = opens()
    page.click("#record")
    page.wait_for_selector("#record[aria-pressed=true]:has-text('Stop (1 s)')")
    page.click("#record")
    first_label(page)
    assert re.match(r"recorded [\d.]+\.wav · \d+ kB", page.inner_text("#chosen-name"))


def test_the_history_outlives_the_page_until_it_is_forgotten(opens: Opens) -> None:
    page = opens()
    page.click("#clips li:nth-child(2) button")
    first_label(page)
    page.reload()
    page.click("#history button")
    assert page.inner_text("#verdict strong") == "church bell"
    page.click("#forget")
    page.wait_for_selector("#history-card", state="hidden")
    page.reload()
    page.wait_for_selector("#tags li")
    assert page.is_hidden("#history-card")


def test_everything_is_reached_and_used_with_the_keyboard(opens: Opens) -> None:
    page = opens()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("#clips li:first-child button")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert first_label(page) == "church bell"
    page.focus("#label")
    page.keyboard.press("Backspace")
    assert "telephone" not in page.inner_text("#tags")
    page.focus("#tab-curl")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "tab-cli"
    assert page.inner_text("#snippet").startswith("clapedge score 'church-bell.flac'")
    page.focus("#copy")
    page.keyboard.press("Enter")
    page.wait_for_selector("#snippet-hint:has-text('Copied.')")
    assert page.evaluate("getSelection().toString()").startswith("clapedge score")
