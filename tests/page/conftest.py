"""A server with the page, and a browser that looks at it."""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import soundfile

from clapedge.audio import SAMPLE_RATE, read

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLIPS = Path(__file__).parents[2] / "engine" / "clapedge" / "demo_clips"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)

Opens = Callable[..., "Page"]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Run `clapedge serve` with the demo model, and return its address."""
    for extra in ("gradio", "uvicorn"):
        pytest.importorskip(extra, reason=f"{extra} is not installed: pip install 'clapedge[web]'")
    command = [sys.executable, "-m", "clapedge.cli", "serve", "--port", "0", "--threads", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        log = process.stderr
        assert log
        try:
            yield address_of(log)
        finally:
            process.terminate()
            process.wait()


def address_of(lines: Iterable[str]) -> str:
    """Read the log of a server up to its address; a thread reads on, so that the server never waits."""
    so_far = ""
    for line in lines:
        so_far += line
        if found := re.search(r"answering at (http://\S+)", line):
            threading.Thread(target=lambda: [None for _ in lines], daemon=True).start()
            return found[1]
    raise AssertionError(f"the server ended: {so_far}")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Start Debian's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine; Debian's package chromium brings it")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def opens(server: str, browser: "Browser") -> Iterator[Opens]:
    """Return what opens the page; a wish to reach another host, or a script's error, fails the test."""
    faults: list[str] = []
    contexts = []
    own = (f"{server}/", "blob:", "data:")

    def open_page(locale: str = "en-US", width: int = 1280, scheme: str = "light") -> "Page":
        context = browser.new_context(
            locale=locale,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        context.on("request", lambda asked: None if asked.url.startswith(own) else faults.append(asked.url))
        page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(server)
        page.wait_for_selector("#tags li")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return what makes a file of a demo clip in another format."""
    folder = tmp_path_factory.mktemp("recordings")

    def make(clip: str, suffix: str) -> Path:
        path = folder / f"{clip}.{suffix}"
        samples = read(CLIPS / f"{clip}.flac").samples
        if suffix == "m4a":
            _write_m4a(path, samples)
        else:
            soundfile.write(path, samples, SAMPLE_RATE)
        return path

    return make


def _write_m4a(path: Path, samples: "object") -> None:
    """Encode samples as AAC."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'clapedge[formats]'")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")  # type: ignore[index]
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
