"""The engine's tests on an installed wheel, at both ends of what is supported; `make test-matrix` runs it."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # nox says which interpreter it did not find

OLDEST = ("onnxruntime==1.18.*", "numpy==1.26.*")
"""The floor of the extra `cpu`; ONNX Runtime 1.18 was built for NumPy 1."""


@nox.session(python="3.10")
def oldest(session: nox.Session) -> None:
    """Test on the oldest Python with the oldest ONNX Runtime."""
    _test_wheel(session, *OLDEST)


@nox.session(python="3.13")
def newest(session: nox.Session) -> None:
    """Test on the newest Python with the newest ONNX Runtime."""
    _test_wheel(session, "onnxruntime")


def _test_wheel(session: nox.Session, *requirements: str) -> None:
    """Install the wheel as a user would, and run the engine's tests where the sources are out of reach."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", name, ".")
        session.install("-q", *map(str, directory.glob("*.whl")), "pytest", "hypothesis", *requirements)
        shutil.copy("tests/conftest.py", directory)
        shutil.copytree("tests/engine", directory / "engine")
        with session.chdir(directory):
            session.run("python", "-m", "pytest", "-q", "-ra", "--import-mode=importlib", "engine")
