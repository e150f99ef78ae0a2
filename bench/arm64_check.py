"""Install aarch64 kits in an ARM64 Debian under QEMU's user emulation, and compare with this machine; one JSON file.

The emulated processor is a Cortex-A76, that of a Raspberry Pi 5, so that ONNX Runtime takes the kernels that it takes
there. What comes out tells whether results are right, nothing of speed. Needs Linux on x86-64, root, and the packages
qemu-user-static and debootstrap. Exits with 0 if every figure holds, 1 if one does not.
"""

import argparse
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from clapedge.errors import BundleError
from clapedge.kit.bundle_subset import DEMO_CLIPS
from clapedge.kit.selftest import read
from clapedge.model.bundle import demo_directory

RELEASE, PYTHON = "bookworm", "3.11"
"""Debian 12, on which Raspberry Pi OS of the same name rests, and its Python."""

PROCESSOR = "cortex-a76"
FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
CORES = 4
CPUINFO = "".join(
    f"processor\t: {core}\nFeatures\t: {FEATURES}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    "CPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n"
    for core in range(CORES)
)
"""What /proc/cpuinfo says on a Raspberry Pi 5: with the host's, ONNX Runtime would not know the processor, or crash."""

BINFMT = Path("/proc/sys/fs/binfmt_misc")
"""Where Linux is told which program runs which kind of program."""
QEMU_RULE = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")

SYSTEM_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
SECOND_STAGE = ("/debootstrap/debootstrap", "--second-stage")

EXCERPT, EXCERPTS = 2.5, 4
"""Seconds and number of excerpts of each demo clip with which the S8S8 tower is calibrated."""

LEAST_COSINE = 0.995
"""Of INT8 on ARM with float32 here; the tolerances of the self-test itself hold besides."""

INSIDE = """set -e
mount --bind /proc "$1/proc"
mount --bind /sys "$1/sys"
mount --bind "$2" "$1/proc/cpuinfo"
shift 2
exec "$@"
"""
"""Runs in a mount namespace of its own, so that nothing stays mounted."""

INSTALL = """set -e
rm -rf /kit /opt/clapedge
mkdir /kit
tar xzf /kit.tar.gz -C /kit
/kit/*/install.sh --no-selftest >&2
"""


@dataclass(frozen=True)
class Machine:
    """The emulated machine.

    Attributes:
        root: its files.
        cpuinfo: what it has for /proc/cpuinfo.
    """

    root: Path
    cpuinfo: Path

    def run(self, *words: str, may_end_with: int = 0) -> str:
        """Run a command in it, without a network, and return what it prints; it may end with 0 or another code."""
        shell = ["unshare", "--mount", "--net", "sh", "-c", INSIDE, "sh", str(self.root), str(self.cpuinfo)]
        chroot = ["env", "-i", SYSTEM_PATH, f"QEMU_CPU={PROCESSOR}", "chroot", str(self.root)]
        return run(*shell, *chroot, *words, may_end_with=may_end_with)


def run(*command: str, may_end_with: int = 0) -> str:
    """Run a command and return what it prints; what it complains of is seen."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own words
    if done.returncode not in {0, may_end_with}:
        done.check_returncode()
    return done.stdout


def make_machine(place: Path, mirror: str | None) -> Machine:
    """Return the machine, made by debootstrap unless it is there from the last time."""
    root, done, cpuinfo = place / "root", place / "root.complete", place / "cpuinfo"
    cpuinfo.write_text(CPUINFO)
    register_qemu()
    if not done.exists():
        shutil.rmtree(root, ignore_errors=True)
        source = [mirror] if mirror else []
        options = ["--arch=arm64", "--foreign", "--variant=minbase", "--include=python3"]
        print("config an ARM64 Debian (some minutes, once) ...", file=sys.stderr)
        run("debootstrap", *options, RELEASE, str(root), *source)
        run("env", "-i", SYSTEM_PATH, "DEBIAN_FRONTEND=noninteractive", "chroot", str(root), *SECOND_STAGE)
        done.touch()
    return Machine(root, cpuinfo)


def register_qemu() -> None:
    """Let Linux run programs of ARM64 with QEMU; Debian's package does so by itself where systemd runs."""
    if not (BINFMT / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT))
    if not (BINFMT / "qemu-aarch64").exists():
        (BINFMT / "register").write_bytes(QEMU_RULE.read_bytes().strip())


def make_signed(bundle: Path, place: Path) -> Path:
    """Copy a bundle and give it an INT8 tower for ARM: signed weights and activations (S8S8), static scales."""
    sounds, target = place / "sounds", place / f"{bundle.name}-s8s8"
    sounds.mkdir(exist_ok=True)
    for clip in DEMO_CLIPS.glob("*.flac"):
        samples, rate = soundfile.read(clip, dtype="float32")
        starts = np.linspace(0, max(0, len(samples) - EXCERPT * rate), EXCERPTS).astype(int)
        for number, start in enumerate(starts):
            soundfile.write(sounds / f"{clip.stem}-{number}.wav", samples[start : start + int(EXCERPT * rate)], rate)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(bundle, target)
    clapedge("calibrate", str(target), "--audio", str(sounds), "--target", "arm", "--report", str(place / "report"))
    return target


def clapedge(*words: str) -> None:
    """Run clapedge here."""
    print("clapedge", *words, file=sys.stderr)
    run(sys.executable, "-m", "clapedge.cli", *words)


def check(machine: Machine, bundle: Path, place: Path) -> dict[str, Any]:
    """Pack a bundle, install the kit on the machine and compare; return the figures by variant."""
    kit = machine.root / "kit.tar.gz"
    words = ("--target", "linux-aarch64", "--python", PYTHON, "--precision", "fp32", "--precision", "int8", "--force")
    clapedge("bundle", "pack", str(bundle), "-o", str(kit), *words)
    size, began = kit.stat().st_size, time.perf_counter()
    machine.run("sh", "-c", INSTALL)
    installed = time.perf_counter() - began
    selftest = ("/opt/clapedge/bin/clapedge", "bundle", "selftest", "/opt/clapedge/current", "--json")
    findings = json.loads(machine.run(*selftest, may_end_with=BundleError.exit_code))
    shutil.rmtree(place / "unpacked", ignore_errors=True)
    shutil.unpack_archive(kit, place / "unpacked")
    costs = quantisation(next((place / "unpacked").iterdir()))
    figures: dict[str, Any] = {"kit_mb": round(size / 1e6, 1), "install_s": round(installed, 1)}
    for variant in ("fp32", "int8"):
        rows = [row for row in findings if row["variant"] == variant]
        figures[variant] = {
            "clips": len(rows),
            "holds": all(row["holds"] for row in rows),
            "largest_difference": max(row["difference"] for row in rows),
            "least_cosine": min(row["cosine"] for row in rows),
            "seconds_a_clip": round(float(np.median([row["seconds"] for row in rows])), 2),
        }
    angles = (math.acos(row["cosine"]) + costs[row["file"]] for row in findings if row["variant"] == "int8")
    worst = min(map(math.cos, angles))
    figures["int8"]["least_cosine_with_fp32_here"] = worst
    figures["int8"]["holds"] &= worst >= LEAST_COSINE
    return figures


def quantisation(kit: Path) -> dict[str, float]:
    """Return the angle between INT8 and float32 of each clip, as recorded here; angles add up at worst."""
    recorded = {(each.file, each.variant): each.vector() for each in read(kit).clips}
    cosines = {
        file: float(vector.astype(np.float64) @ recorded[file, "fp32"])
        for (file, variant), vector in recorded.items()
        if variant == "int8"
    }
    return {file: math.acos(min(1.0, cosine)) for file, cosine in cosines.items()}


def about(machine: Machine) -> dict[str, str]:
    """Say what was run."""
    code = "import numpy, onnxruntime, soxr; print(numpy.__version__, onnxruntime.__version__, soxr.__version__)"
    numpy, runtime, soxr = machine.run("/opt/clapedge/current/venv/bin/python", "-c", code).split()
    qemu = run("qemu-aarch64-static", "--version")
    return {
        "debian": (machine.root / "etc/debian_version").read_text().strip(),
        "python": machine.run("python3", "--version").split()[1],
        "onnxruntime": runtime,
        "numpy": numpy,
        "soxr": soxr,
        "emulated": PROCESSOR,
        "qemu": re.findall(r"version ([\d.]+)", qemu)[0],
        "compared_with": f"{platform.machine()}, Python {platform.python_version()}",
    }


def bundles(given: Sequence[Path], place: Path) -> Iterator[tuple[str, Path]]:
    """Yield each bundle with the name of its INT8 tower: as it is, and calibrated for ARM."""
    demo = place / "demo"
    shutil.copytree(demo_directory(), demo, dirs_exist_ok=True)
    for bundle in (demo, *given):
        yield f"{bundle.name}, U8S8 dynamic", bundle
        yield f"{bundle.name}, S8S8 static", make_signed(bundle, place)


def main() -> int:
    """Check every bundle and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="check this one too; repeats")
    parser.add_argument("--place", type=Path, default=Path("build/arm64"), help="where the machine is kept")
    parser.add_argument("--mirror", help="of Debian, for debootstrap")
    parser.add_argument("--out", type=Path, default=Path("bench/results/arm64.json"))
    options = parser.parse_args()
    missing = [name for name in ("qemu-aarch64-static", "debootstrap", "unshare") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        print(f"needs root and: apt-get install {' '.join(missing) or 'nothing more'}", file=sys.stderr)
        return 2
    place = options.place.resolve()
    place.mkdir(parents=True, exist_ok=True)
    machine = make_machine(place, options.mirror)
    results = {name: check(machine, bundle, place) for name, bundle in bundles(options.bundle, place)}
    whole = {"about": about(machine), "results": results}
    options.out.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(whole, indent=2))
    return 0 if all(result[variant]["holds"] for result in results.values() for variant in ("fp32", "int8")) else 1


if __name__ == "__main__":
    sys.exit(main())
