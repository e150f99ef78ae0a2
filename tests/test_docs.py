"""What the documents say exists: links, commands with their options, make targets, Python examples."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import clapedge
from clapedge.cli import cli

ROOT = Path(__file__).parents[1]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = {"", "bash", "console", "sh", "shell"}
"""Languages of the blocks that hold commands; a block without a language is one."""


def documents() -> list[Path]:
    """Return every Markdown file that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in sorted(listed.splitlines()) if (ROOT / name).is_file()]


DOCUMENTS = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in documents()]


def blocks(path: Path, languages: set[str]) -> Iterator[str]:
    """Yield the fenced blocks of a document in some languages."""
    yield from (code for language, code in FENCED.findall(path.read_text(encoding="utf-8")) if language in languages)


def prose(path: Path) -> str:
    """Return a document without its fenced blocks."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def commands(shell: str) -> Iterator[list[str]]:
    """Yield every simple command of a shell text, as words, without prompts and variable assignments."""
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        while words:
            end = next((at for at, word in enumerate(words) if set(word) <= set("|&;<>()")), len(words))
            command, words = words[:end], words[end + 1 :]
            while command and re.match(r"\w+=", command[0]):
                command = command[1:]
            if command:
                yield command


def fault(words: list[str]) -> str | None:
    """Return what is wrong with a command of this project, or None; other programs' commands are not judged."""
    program, *rest = words
    if program == "make":
        unknown = [word for word in rest if "=" not in word and word[0] != "-" and word not in TARGETS]
        return f"no make target {unknown[0]}" if unknown else None
    if Path(program).name != "clapedge":
        return None
    command: click.Command = cli
    context = click.Context(cli, info_name="clapedge")
    while isinstance(command, click.Group) and rest and rest[0][0] != "-":
        found = command.get_command(context, rest[0])
        if found is None:
            return f"no command {rest[0]}"
        command, rest = found, rest[1:]
    try:
        command.make_context("clapedge", rest)
    except click.exceptions.Exit:  # --help and --version
        return None
    except click.UsageError as error:
        return error.format_message()
    return None


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as the usual renderers make them."""
    titles = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_link_within_the_project_leads_somewhere(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_command_of_a_document_is_one_that_the_project_understands(path: Path) -> None:
    named = re.findall(r"`((?:clapedge|make)(?: [a-z-]+)+)`", prose(path))
    inline = [f"{code} --help" for code in named]  # without their arguments: it is the name that counts
    found = [command for text in [*blocks(path, SHELL), *inline] for command in commands(text)]
    faults = {shlex.join(words): wrong for words in found if (wrong := fault(words))}
    assert faults == {}


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_python_example_of_a_document_parses_and_imports_what_exists(path: Path) -> None:
    for code in blocks(path, {"python"}):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "clapedge":
                assert {alias.name for alias in node.names} <= set(clapedge.__all__)


def test_the_examples_of_the_python_page_run_and_are_typed(tmp_path: Path) -> None:
    for clip in (Path(clapedge.__file__).parent / "demo_clips").glob("*.flac"):
        shutil.copy(clip, tmp_path)
    script = tmp_path / "example.py"
    script.write_text("\n".join(blocks(ROOT / "docs" / "python.md", {"python"})), encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert "failed: missing.wav does not exist" in done.stdout
    checked = subprocess.run(  # as part of the project, so that what `make type` found out is used
        [sys.executable, "-m", "mypy", "--strict", script], cwd=ROOT, capture_output=True, check=False, text=True
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    "command",
    [
        "clapedge scoore a.wav",
        "X=1 clapedge score a.wav --lable x",
        "cat a | clapedge score - --pad disc",
        "make demos",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(command: str) -> None:
    assert [wrong for words in commands(command) if (wrong := fault(words))]


TRANSLATED = [("README.md", "README.zh-CN.md"), ("docs/tutorial.md", "docs/tutorial.zh-CN.md")]


@pytest.mark.parametrize(("original", "translation"), TRANSLATED)
def test_a_translation_names_the_same_commands_figures_and_pages(original: str, translation: str) -> None:
    def facts(name: str) -> tuple[list[str], list[str], set[str]]:
        path = ROOT / name
        code = [
            re.sub(r"#.*", "", line).rstrip()
            for block in blocks(path, {"sh", "powershell", "python"})
            for line in block.splitlines()
        ]
        figures = re.findall(r"\d+(?:\.\d+)? (?:ms|MB)|0\.\d+", prose(path))
        pages = set(re.findall(r"\]\(([^)\s:]+\.(?:md|png)(?:#[\w-]+)?)\)", prose(path)))
        return code, sorted(figures), {page.replace(".zh-CN", "") for page in pages} - {"README.md"}

    one, other = facts(original), facts(translation)
    assert one[:2] == other[:2]
    assert other[2] >= one[2] - {"docs/explanation.md"}
