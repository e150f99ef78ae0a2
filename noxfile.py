"""The engine's tests on an installed wheel, at both ends of what is supported; `make test-matrix` runs it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # nox says which interpreter it did not find

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
EXTRAS = ("cpu", "formats", "parquet")
"""What the engine's tests need beside the engine itself."""


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
