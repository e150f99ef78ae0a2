"""What the site's builder does beside MkDocs: runs the tutorials, and writes pages from the code."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]

RUN = re.compile(r"^<!-- run -->\n```(sh|python)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:labels|bench|demo|engine|README\.md|CONTRIBUTING\.md)[^)]*\)")
"""A link to a file of the repository that is not part of the site."""

SECONDS = 120
"""Longest run of a command of the tutorial."""

COLUMNS = "100"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:  # noqa: ANN401 - MkDocs calls it with its own types
    """Return the Markdown of a page, with what is generated in it."""
    name = page.file.src_uri
    markdown = OUTSIDE.sub(r"\1", markdown)
    if name.startswith("tutorial."):
        return run_blocks(markdown)
    for mark, write in (("commands", commands), ("exported", exported), ("routes", routes)):
        if f"<!-- {mark} -->" in markdown:
            markdown = markdown.replace(f"<!-- {mark} -->", write())
    return markdown


def run_blocks(markdown: str) -> str:
    """Run the marked blocks one after another in a directory of their own, and put what they print under them.

    Raises:
        RuntimeError: a block fails; the site is not built with what does not work.
    """
    with TemporaryDirectory() as name:
        directory = demo_directory(Path(name))

        def ran(found: re.Match[str]) -> str:
            text = printed(found[1], found[2], directory)
            answer = f"\n```text\n{text}\n```\n" if text else ""
            return f"```{found[1]}\n{found[2]}```\n{answer}"

        return RUN.sub(ran, markdown)


def demo_directory(directory: Path) -> Path:
    """Return a directory, in which the demo clips now lie in `sounds`."""
    sounds = directory / "sounds"
    sounds.mkdir()
    for clip in sorted((ROOT / "engine/clapedge/demo_clips").glob("*.flac")):
        shutil.copy(clip, sounds)
    return directory


def printed(language: str, code: str, directory: Path) -> str:
    """Return what code prints that is run in a directory, its notes first.

    Raises:
        RuntimeError: it fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": COLUMNS, "CLAPEDGE_CACHE": str(directory / ".cache")}
    environment.pop("CLAPEDGE_BUNDLE", None)
    command = ["sh", "-ec", code] if language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(  # noqa: S603 - the page is this project's own
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the tutorial's command failed:\n{code}\n{done.stdout}{done.stderr}")
    notes = [line for line in done.stderr.splitlines() if "clapedge-demo is the built-in demo model" not in line]
    return "\n".join((*notes, *done.stdout.splitlines()))


def exported() -> str:
    """Return what mkdocstrings is to document: every exported class and function, errors last."""
    import clapedge

    found = [getattr(clapedge, name) for name in clapedge.__all__]
    things = [one for one in found if hasattr(one, "__qualname__")]
    things.sort(key=lambda one: one.__module__ == "clapedge.errors")
    return "\n\n".join(f"::: {one.__module__}.{one.__qualname__}" for one in things)


def commands() -> str:
    """Return the help of every command, a section each."""
    from clapedge.cli import cli

    return "\n\n".join(_help(cli, "clapedge", None))


def _help(command: click.Command, name: str, parent: click.Context | None) -> list[str]:
    """Return the section of a command and those of its own commands."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=int(COLUMNS), max_content_width=100)
    level = "##" if parent is None or parent.parent is None else "###"
    sections = [f"{level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```"]
    if isinstance(command, click.Group):
        for one in command.list_commands(context):
            found = command.get_command(context, one)
            if found is not None:
                sections.extend(_help(found, one, context))
    return sections


def routes() -> str:
    """Return a table of the service's routes, with the parameters of each."""
    from clapedge.serve.app import create_app
    from clapedge.serve.service import Service
    from clapedge.serve.settings import Settings

    document = create_app(Service(Settings()), page=False).openapi()
    lines = ["| route | does | parameters |", "|---|---|---|"]
    for path, methods in sorted(document["paths"].items()):
        for method, facts in methods.items():
            names = ", ".join(f"`{one['name']}`" for one in facts.get("parameters", []))
            lines.append(f"| `{method.upper()} {path}` | {facts.get('summary', '')} | {names} |")
    return "\n".join(lines)
