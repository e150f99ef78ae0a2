"""The engine's tests on an installed wheel (`make test-matrix`), and a release's checks (`make release-check`)."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.sessions = ["oldest", "newest"]
nox.options.error_on_missing_interpreters = False  # nox says which interpreter it did not find

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
EXTRAS = ("cpu", "formats", "parquet")
"""What the engine's tests need beside the engine itself."""

RELEASE = Path("dist/release")

OPENING = """
import clapedge, sys
from clapedge import Engine
clips = sys.argv[1]
print(clapedge.__version__, Engine.load().score(clips + "/siren.flac", ["siren", "rain"]).top.name)
"""
"""What must work wherever an extra with ONNX Runtime is installed."""


@nox.session(python="3.10")
def oldest(session: nox.Session) -> None:
    """Test on the oldest Python with the oldest version of every dependency."""
    extras = PROJECT["optional-dependencies"]
    requirements = [*PROJECT["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    _test_wheel(session, [line.partition(",")[0].replace(">=", "==") for line in requirements])


@nox.session(python="3.13")
def newest(session: nox.Session) -> None:
    """Test on the newest Python with the newest version of every dependency."""
    _test_wheel(session, [])


def _test_wheel(session: nox.Session, pins: Sequence[str]) -> None:
    """Install the wheel as a user would, and run the engine's tests where the sources are out of reach."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", name, ".")
        (wheel,) = directory.glob("*.whl")
        session.install("-q", f"{wheel}[{','.join(EXTRAS)}]", "pytest", "hypothesis", *pins)
        shutil.copy("tests/conftest.py", directory)
        shutil.copytree("tests/engine", directory / "engine")
        with session.chdir(directory):
            session.run("python", "-m", "pytest", "-q", "-ra", "--import-mode=importlib", "engine")


@nox.session(python=False)
def release(session: nox.Session) -> None:
    """Build the source archive and from it the wheel; check their metadata; list an environment and its licences."""
    shutil.rmtree(RELEASE, ignore_errors=True)
    with TemporaryDirectory() as name:
        tools = Path(name)
        session.run("python", "-m", "venv", name)
        python = str(tools / "bin" / "python")
        session.run(python, "-m", "pip", "install", "-q", "hatchling", "twine", "cyclonedx-bom", "pip-licenses")
        session.run(python, "-m", "hatchling", "build", "-t", "sdist", "-d", str(RELEASE))
        (source,) = RELEASE.glob("*.tar.gz")
        session.run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(RELEASE), str(source))
        (wheel,) = RELEASE.glob("*.whl")
        session.run(python, "-m", "twine", "check", "--strict", str(source), str(wheel))
        used = tools / "used"
        session.run("python", "-m", "venv", str(used))
        requirement = f"{wheel}[cpu,web,formats,mqtt]"
        session.run(str(used / "bin/python"), "-m", "pip", "install", "-q", "-c", "constraints.txt", requirement)
        listing = str(RELEASE / "clapedge-service.cdx.json")
        session.run(str(tools / "bin/cyclonedx-py"), "environment", str(used / "bin/python"), "-o", listing)
        licences = str(RELEASE / "clapedge-service.licences.md")
        session.run(
            str(tools / "bin/pip-licenses"), "--python", str(used / "bin/python"),
            "--format", "markdown", "--with-urls", "--output-file", licences,
        )  # fmt: skip


@nox.session(python=["3.10", "3.11", "3.12", "3.13", "3.14"])
@nox.parametrize("extra", [name for name in PROJECT["optional-dependencies"] if name not in {"bench", "dev"}])
def extras(session: nox.Session, extra: str) -> None:
    """Install the wheel with one extra alone, as a user would, and use what must work then."""
    wheels = list(RELEASE.glob("*.whl"))
    if not wheels:
        session.error("there is no wheel; run the session release first")
    with_runtime = extra if extra in {"cpu", "gpu"} else f"cpu,{extra}"
    session.install("-q", "-c", "constraints.txt", f"{wheels[0]}[{extra}]")
    session.run("clapedge", "--help", silent=True)
    if extra != "gpu":  # its package serves the CPU as well, and is as large as everything else
        session.install("-q", "-c", "constraints.txt", f"{wheels[0]}[{with_runtime}]")
    with session.chdir(session.create_tmp()):
        where = session.run("python", "-c", "import clapedge; print(clapedge.__path__[0])", silent=True)
        session.run("python", "-c", OPENING, f"{str(where).strip()}/demo_clips")
        session.run("clapedge", "doctor", success_codes=[0])
