"""The site: built strictly, with the tutorial run, and read from a folder without a network and without JavaScript."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
"""Attributes whose address a browser loads by itself; those of `link` too, but for relations."""

RELATIONS = {"canonical", "next", "prev"}


class Page(HTMLParser):
    """What a page loads, and the text of it that needs no script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""
        self._skipped = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        address = found.get(LOADED.get(tag, ""))
        if tag == "link" and found.get("rel") not in RELATIONS:
            address = found.get("href")
        if address:
            self.loads.append(address)
        self._skipped += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        self.text += "" if self._skipped else data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a broken link, a page outside of the navigation, or a command that fails ends the build."""
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed: pip install 'clapedge[dev]'")
    out = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").glob("*.md")))
    outside = {page.name: [one for one in Page(page).loads if re.match(r"(https?:)?//", one)] for page in pages}
    assert {name: found for name, found in outside.items() if found} == {}


def test_what_pages_load_lies_in_the_folder(site: Path) -> None:
    missing = [
        (page.name, one)
        for page in site.rglob("*.html")
        if page.name != "404.html"  # it is served from the root
        for one in Page(page).loads
        if not one.startswith("data:") and not (page.parent / one.partition("?")[0]).resolve().exists()
    ]
    assert missing == []


def test_the_tutorial_shows_what_its_commands_print(site: Path) -> None:
    text = Page(site / "tutorial.html").text
    assert re.search(r"siren\s+\d\d\.\d%", text)
    assert '"labels":[{"name":' in text
    assert re.search(r"\d events in \d+ windows", text)
    assert "embeddings of 6 recordings" in text
    assert "smoke alarm 0.9" in text


def test_the_reference_is_made_of_the_code(site: Path) -> None:
    commands, routes, python = (
        Page(site / "reference" / f"{name}.html").text for name in ("commands", "http", "python")
    )
    assert "clapedge labels embed" in commands
    assert "Usage: clapedge timeline" in commands
    assert "POST /v1/score" in routes
    for name in ("embed_audio", "score_many", "LabelSet", "Timeline"):
        assert name in python


def test_a_page_reads_without_javascript(site: Path) -> None:
    assert "softmax of the similarities" in Page(site / "explanation.html").text


def test_a_tutorial_that_does_not_work_would_be_found() -> None:
    sys.path.insert(0, str(ROOT / "packaging"))
    import site_hooks

    with pytest.raises(RuntimeError, match="the tutorial's command failed"):
        site_hooks.run_blocks("<!-- run -->\n```sh\nclapedge score sounds/none.flac -l x\n```\n")
