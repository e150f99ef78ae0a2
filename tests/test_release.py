"""What is released: the contents of the wheel and of the source archive, NOTICE, and the workflows."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from clapedge import __version__

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = ("engine/clapedge", "export/clapedge_export", "calib/clapedge_calib")

SOURCES = ("CHANGELOG.md", "LICENSE", "NOTICE", "README.md", "constraints.txt", "pyproject.toml")
"""What the source archive holds beside the packages, the label sets and the list of recordings."""

ATTRIBUTION = "demo/checkpoint/ATTRIBUTION.csv"

METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both archives from a copy of what git knows and would, so that no other file of this machine counts."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install 'clapedge[dev]'")
    sources, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        target = sources / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", out], cwd=sources, check=True, capture_output=True
    )
    return out


def tracked() -> list[str]:
    """Return the files of the repository that exist."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a clone: git knows which files belong to it")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_the_wheel_holds_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    expected = {
        name.split("/", 1)[1] for name in tracked() if any(name.startswith(f"{package}/") for package in PACKAGES)
    }
    expected |= {f"clapedge/label_sets/{name.split('/', 1)[1]}" for name in tracked() if name.startswith("labels/")}
    expected |= {f"clapedge-{__version__}.dist-info/{name}" for name in METADATA}
    expected.add("clapedge/demo_model/ATTRIBUTION.csv")
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == expected


def test_the_source_archive_holds_what_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    kept = {
        name
        for name in tracked()
        if any(name.startswith(f"{part}/") for part in ("engine", "export", "calib", "labels"))
        or name in {*SOURCES, ATTRIBUTION}
    }
    with tarfile.open(source) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
        assert names == kept | {"PKG-INFO", ".gitignore"}
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again"],
        cwd=unpacked, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,), (again,) = built.glob("*.whl"), (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {name: one.read(name) for name in one.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }


def test_notice_is_what_its_tool_prints() -> None:
    tool = ROOT / "packaging" / "notice.py"
    printed = subprocess.run([sys.executable, tool], check=True, capture_output=True).stdout
    assert printed.decode() == (ROOT / "NOTICE").read_text(encoding="utf-8"), "run python packaging/notice.py > NOTICE"


def test_the_newest_change_stands_under_a_version_or_unreleased() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0] == "## [Unreleased]"


@pytest.mark.parametrize(
    "linter",
    [["zizmor", "--offline", "--no-progress", "--quiet", "--persona", "regular"], ["actionlint"]],
    ids=["zizmor", "actionlint"],
)
def test_the_workflows_are_linted(linter: list[str]) -> None:
    tool = shutil.which(linter[0], path=str(Path(sys.executable).parent)) or shutil.which(linter[0])
    if tool is None:
        pytest.skip(f"{linter[0]} is not installed")
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    done = subprocess.run([tool, *linter[1:], *files], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
