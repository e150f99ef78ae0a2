"""The rules of the code's layout that a linter does not know, held over every tracked source file."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FUNCTION = 50
LONGEST_FILE = 400


def sources() -> list[Path]:
    """Return every Python file that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def nodes(path: Path) -> Iterator[ast.AST]:
    """Yield every syntax node of a file."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted name of every module or attribute that a file imports, inside functions too."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides the room it reaches into"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def places(path: Path, found: list[str]) -> list[str]:
    """Prefix each finding with the file's name."""
    return [f"{path.relative_to(ROOT)}: {finding}" for finding in found]


@pytest.mark.parametrize(
    ("room", "foreign"),
    [
        ("engine", {"clapedge_export", "clapedge_calib", "torch", "transformers", "onnx"}),
        ("export", {"clapedge_calib"}),
    ],
)
def test_a_room_imports_nothing_of_the_rooms_that_build_on_it(room: str, foreign: set[str]) -> None:
    paths = sorted((ROOT / room).rglob("*.py"))
    assert paths
    found = [places(path, [name]) for path in paths for name in imported(path) if name.partition(".")[0] in foreign]
    assert found == []


def test_no_function_is_longer_than_a_screen_and_no_file_longer_than_a_sitting() -> None:
    found = []
    for path in sources():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > LONGEST_FILE:
            found += places(path, [f"{lines} lines"])
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > LONGEST_FUNCTION:
                    found += places(path, [f"{node.name} has {size} lines"])
    assert found == []


def test_no_handler_catches_everything() -> None:
    found = []
    for path in sources():
        for node in nodes(path):
            if isinstance(node, ast.ExceptHandler):
                caught = {getattr(kind, "id", "") for kind in ast.walk(node.type)} if node.type else {"BaseException"}
                if caught & {"Exception", "BaseException"}:
                    found += places(path, [f"line {node.lineno}"])
    assert found == []


def test_user_data_is_never_checked_with_assert() -> None:
    found = []
    for path in sources():
        if path.is_relative_to(ROOT / "tests"):
            continue
        found += places(path, [f"line {node.lineno}" for node in nodes(path) if isinstance(node, ast.Assert)])
    assert found == []
