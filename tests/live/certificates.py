"""Certificates for the tests, made by OpenSSL's program: an authority, and what it signs."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Authority:
    """An authority of one's own."""

    directory: Path

    @property
    def ca(self) -> Path:
        """Its certificate."""
        return self.directory / "ca.pem"

    def sign(self, name: str, *names: str) -> Path:
        """Return a file with a certificate for some names (`IP:127.0.0.1`, `DNS:host`), followed by its key."""
        key, request, signed = (self.directory / f"{name}.{end}" for end in ("key", "csr", "crt"))
        _openssl("req", *EC_KEY, "-keyout", key, "-subj", f"/CN={name}", "-out", request)
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(names) or f'DNS:{name}'}\n")
        issuer = ("-CA", self.ca, "-CAkey", self.directory / "ca.key", "-CAcreateserial", "-days", "2")
        _openssl("x509", "-req", "-in", request, *issuer, "-extfile", extensions, "-out", signed)
        both = self.directory / f"{name}.pem"
        both.write_bytes(signed.read_bytes() + key.read_bytes())
        return both


def authority(directory: Path) -> Authority:
    """Make an authority."""
    directory.mkdir()
    made = Authority(directory)
    _openssl(
        "req", "-x509", *EC_KEY, "-keyout", directory / "ca.key", "-subj", "/CN=own", "-days", "2", "-out", made.ca
    )
    return made


def _openssl(*words: str | Path) -> None:
    """Run OpenSSL."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed; on Debian: apt install openssl")
    subprocess.run([program, *map(str, words)], check=True, capture_output=True)
