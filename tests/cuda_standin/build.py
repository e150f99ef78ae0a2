"""Build stand-ins of NVIDIA's libraries for the CUDA provider of the installed `onnxruntime-gpu`.

Every symbol that the provider imports is defined: some in the C files beside this one, all others as calls that are
logged and do nothing. ONNX Runtime then partitions, optimises, binds, captures and replays a graph as it does on a
GPU; only the numbers mean nothing.

Usage: python build.py HEADERS DIRECTORY

HEADERS holds the packages `nvidia-cuda-runtime` and `nvidia-cuda-crt`, installed apart (`pip install --target`): ONNX
Runtime would find the libraries that lie beside their headers, and load those.
"""

import re
import subprocess
import sys
from pathlib import Path

import onnxruntime

HERE = Path(__file__).parent

CUDNN = "libcudnn.so.9"
"""Opened by name when a kernel first needs it: its symbols are not imported, but their names lie in the provider."""

LIBRARY_OF = {"cu": "libcuda.so.1"}
"""Where symbols lie whose import names no library, by their prefix."""

DEFINED = re.compile(r"^EXPORT [^;{]*?\b(\w+)\(", re.MULTILINE)
"""A function that a C file defines."""

FLAGS = (
    *("-shared", "-fPIC", "-O2", "-std=gnu11", "-pthread", "-Wall", "-Wextra", "-Werror"),
    # what the shape of a stand-in makes inevitable
    *("-Wno-format-zero-length", "-Wno-unused-function", "-Wno-unused-parameter"),
)


def output(*command: str | Path) -> str:
    """Run a program and return what it prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def imported_symbols(provider: Path) -> dict[str, set[str]]:
    """Return the symbols that a provider imports from NVIDIA's libraries, by library."""
    listing = output("nm", "--dynamic", "--undefined-only", provider)
    found: dict[str, set[str]] = {}
    for name, library in re.findall(r" U (\w+)(?:@(\S+))?$", listing, re.MULTILINE):
        if re.match(r"lib(cu|nv)", library):
            found.setdefault(library, set()).add(name)
        elif re.match(r"cu[A-Z]", name):
            found.setdefault(LIBRARY_OF["cu"], set()).add(name)
    return found


def needed_libraries(provider: Path) -> list[str]:
    """Return NVIDIA's libraries that the loader opens together with a provider."""
    listing = output("readelf", "--dynamic", provider)
    return re.findall(r"\(NEEDED\).*\[(lib(?:cu|nv)\S+)\]", listing)


def build(library: str, symbols: set[str], directory: Path, include: Path) -> None:
    """Compile the stand-in of one library.

    Args:
        library: its file name with the version, such as `libcudart.so.13`.
        symbols: what it has to define.
        directory: where it is written.
        include: CUDA's headers.
    """
    stem = library.partition(".")[0]
    written = HERE / f"{stem}.c"
    code = written.read_text() if written.exists() else '#include "standin.h"\n'
    rest = sorted(symbols - set(DEFINED.findall(code)))
    code += "".join(f'\nEXPORT int {name}(void) {{ return call("{name}", ""); }}' for name in rest)
    source, versions = directory / f"{stem}.c", directory / f"{stem}.map"
    source.write_text(code + "\n")
    versions.write_text(f"{library} {{ global: *; }};\n")
    linked = (f"-Wl,-soname,{library}", f"-Wl,--version-script={versions}")
    output("cc", *FLAGS, f"-I{HERE}", f"-isystem{include}", source, "-o", directory / library, *linked)


def main(headers: Path, directory: Path) -> None:
    """Build every stand-in into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    provider = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    (include,) = headers.glob("nvidia/*/include")
    symbols: dict[str, set[str]] = {library: set() for library in needed_libraries(provider)}
    symbols |= imported_symbols(provider)
    symbols[CUDNN] = {
        name.decode() for name in re.findall(rb"\0(cudnn[A-Z][A-Za-z0-9_]+)(?=\0)", provider.read_bytes())
    }
    for library in sorted(symbols):
        build(library, symbols[library], directory, include)
    print(f"{len(symbols)} stand-ins with {sum(map(len, symbols.values()))} symbols in {directory}")  # noqa: T201


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
