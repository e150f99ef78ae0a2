"""What shuts people out, and what leaves the machine: looked for at every width, in both languages and schemes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

CLIPS = Path(__file__).parents[2] / "engine" / "clapedge" / "demo_clips"
GRAVE = {"serious", "critical"}

WATCHED = """
import sys
sought = []
sys.addaudithook(lambda event, given: sought.append((event, given)) if event in SOUGHT else None)
from fastapi.testclient import TestClient
from clapedge.serve.app import create_app
from clapedge.serve.service import Service
from clapedge.serve.settings import Settings
with TestClient(create_app(Service(Settings()))) as client:
    assert client.get("/").status_code == 200
sys.exit(f"reached for {sought}" if sought else 0)
""".replace("SOUGHT", repr(("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request")))

Opens = Callable[..., "Page"]


@pytest.mark.parametrize(
    ("locale", "width", "scheme"),
    [("en-US", 1280, "light"), ("zh-CN", 390, "light"), ("en-US", 390, "dark"), ("zh-CN", 1280, "dark")],
)
def test_axe_finds_no_grave_fault_and_nothing_is_wider_than_the_screen(
    opens: Opens, locale: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = opens(locale, width, scheme)
    page.click("#clips li:nth-child(3) button")
    page.wait_for_selector("#bars li")
    page.wait_for_selector("#figure:not([hidden])")
    page.fill("#label", "no alarm")
    page.wait_for_selector("#advice li")
    page.click("summary")
    found = axe.Axe().run(page).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found if fault["impact"] in GRAVE] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_the_code_that_is_copied_runs_and_gives_the_same_first_label(opens: Opens, locale: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine; Debian's package curl brings it")
    page = opens(locale)
    page.click("#clips li:nth-child(3) button")
    page.wait_for_selector("#copy-card:not([hidden])")
    expected = page.inner_text("#bars li:first-child .name")
    (tmp_path / "door-knock.flac").write_bytes((CLIPS / "door-knock.flac").read_bytes())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for kind in ("cli", "curl", "python"):  # the first one writes the labels that the others read
        page.click(f"#tab-{kind}")
        code = page.inner_text("#snippet")
        command = [sys.executable, "-c", code] if kind == "python" else ["bash", "-euc", code]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, check=True, text=True
        )
        assert expected in done.stdout.splitlines()[1 if kind == "cli" else 0]


def test_the_code_for_curl_sends_no_file_that_a_label_names(opens: Opens) -> None:
    page = opens("en-US")
    code = page.evaluate(
        """async () => {
          const { Code } = await import("./page/static/code.js");
          const labels = [{ name: "@keys" }, { name: "it's <x" }];
          const asked = { file: "a.wav", labels, set: null, fields: {}, key: false };
          new Code(document.querySelector("#copy-card")).show(asked);
          return document.querySelector("#snippet").textContent;
        }"""
    )
    assert "--form-string 'labels=@keys'" in code
    assert "--form-string 'labels=it'\\''s <x'" in code


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/info",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_gradios_own_doors_are_shut(server: str, path: str, method: str) -> None:
    with pytest.raises(HTTPError) as raised:
        urlopen(Request(server + path, method=method))  # noqa: S310 - the server of the test
    assert raised.value.code == 404


def test_the_server_reaches_for_no_other_machine_when_it_starts_and_shows_the_page() -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'clapedge[web]'")
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
