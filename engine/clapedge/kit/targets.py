"""The machines that kits can be made for: which wheels fit, and whose ONNX Runtime runs there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TargetName = Literal["linux-x86_64", "linux-aarch64", "jetson-jp6", "jetson-jp7"]

MIN_GLIBC = 28
"""Minor version of glibc 2.x that ONNX Runtime requires, and up to which wheels are taken: that of Debian 10."""

OLDEST_TAG = 17
"""The lowest manylinux tag that is requested: 2.17 is manylinux2014, the oldest with wheels for aarch64."""

JETSON_RUNTIME = (
    "the aarch64 wheel of onnxruntime-gpu on PyPI has no code for a Jetson's GPU, and the one of onnxruntime runs on "
    'its CPU alone; download the wheel that NVIDIA builds for this JetPack and name it: runtime_wheel="FILE"'
)
"""Why a Jetson needs its own ONNX Runtime."""


@dataclass(frozen=True)
class Target:
    """A machine.

    Attributes:
        machine: the output of `uname -m` there.
        python: version of its system's Python, or None if there are several.
        vendor_runtime: why its ONNX Runtime must be given as a wheel, or None if it comes from the index.
    """

    machine: Literal["x86_64", "aarch64"]
    python: str | None = None
    vendor_runtime: str | None = None

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags of wheels that run there, newest first; vendors use `linux_` for one system."""
        many = tuple(f"manylinux_2_{minor}_{self.machine}" for minor in range(MIN_GLIBC, OLDEST_TAG - 1, -1))
        plain = (f"linux_{self.machine}",) if self.vendor_runtime else ()
        return (*many, f"manylinux2014_{self.machine}", *plain)

    def markers(self, python: str) -> dict[str, str]:
        """Return what environment markers (PEP 508) evaluate to on the machine, for a Python such as 3.11."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
        }


TARGETS: Mapping[TargetName, Target] = {
    "linux-x86_64": Target("x86_64"),
    "linux-aarch64": Target("aarch64"),
    # JetPack 6 is Ubuntu 22.04, JetPack 7 is Ubuntu 24.04
    "jetson-jp6": Target("aarch64", "3.10", JETSON_RUNTIME),
    "jetson-jp7": Target("aarch64", "3.12", JETSON_RUNTIME),
}
