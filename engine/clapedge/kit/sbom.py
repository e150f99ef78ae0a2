"""What a kit holds and under which licences: a CycloneDX document, and the licence texts from the wheels."""

import uuid
import zipfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from clapedge.kit.tarball import epoch
from clapedge.kit.wheel import Wheel
from clapedge.model.bundle import Bundle, sha256

LICENCE_WORDS = ("licen", "copying", "notice", "authors", "thirdparty")
"""Beginnings of the names of licence texts in a wheel, in small letters and without `-` and `_`."""

LONGEST_NAME = 80
"""Characters up to which the old field `License` is a name; some packages put the whole text there."""

UNKNOWN = "see the licences in the package"


def sbom(name: str, version: str, wheels: Sequence[Wheel], bundle: Bundle) -> str:
    """Return the software bill of materials of a kit as CycloneDX JSON; the same parts give the same text.

    Args:
        name: of the kit.
        version: of the engine.
        wheels: every wheel of the kit.
        bundle: the model.
    """
    kit = Component(name=name, version=version, type=ComponentType.APPLICATION, bom_ref=name)
    parts = [*map(_wheel_component, wheels), _model_component(bundle)]
    digests = [each.content for part in parts for one in (part, *part.components) for each in one.hashes]
    bom = Bom(
        components=parts,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, "\n".join([name, *digests])),
        metadata=BomMetaData(component=kit, timestamp=datetime.fromtimestamp(epoch(), timezone.utc)),
    )
    bom.register_dependency(kit, parts)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n"


def write_licences(wheels: Sequence[Wheel], directory: Path) -> None:
    """Write the licence texts of every wheel into a directory each, or what its metadata says if it has none."""
    for wheel in wheels:
        place = directory / f"{wheel.name}-{wheel.version}"
        place.mkdir(parents=True)
        with zipfile.ZipFile(wheel.path) as archive:
            texts = [name for name in archive.namelist() if _is_licence(name)]
            for name in texts:
                parts = PurePosixPath(name).parts
                (place / "_".join(parts[1:] or parts)).write_bytes(archive.read(name))
        if not texts:
            text = f"{wheel.name} {wheel.version} has no licence text. Its metadata says: {licence(wheel)}\n"
            (place / "METADATA.txt").write_text(text, encoding="utf-8")


def licence(wheel: Wheel) -> str:
    """Return the licence according to the metadata of a wheel."""
    metadata = wheel.metadata
    named = [str(metadata[field] or "").strip() for field in ("License-Expression", "License")]
    classifiers = [str(each) for each in metadata.get_all("Classifier", []) if str(each).startswith("License ::")]
    names = [name for name in named if name and len(name) <= LONGEST_NAME and "\n" not in name]
    return next(iter(names), ", ".join(each.rpartition(" :: ")[2] for each in classifiers) or UNKNOWN)


def _wheel_component(wheel: Wheel) -> Component:
    """Describe a wheel."""
    place = PackageURL("pypi", name=wheel.name, version=wheel.version)
    expression = wheel.metadata["License-Expression"]
    named: License = LicenseExpression(str(expression)) if expression else DisjunctiveLicense(name=licence(wheel))
    return Component(
        name=wheel.name,
        version=wheel.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(place),
        purl=place,
        hashes=[_sha256(sha256(wheel.path))],
        licenses=[named],
        properties=[Property(name="clapedge:file", value=f"wheels/{wheel.path.name}")],
    )


def _model_component(bundle: Bundle) -> Component:
    """Describe the bundle, file by file."""
    manifest = bundle.manifest
    names = {f"bundle/{file.path}": file.sha256 for file in manifest.files}
    return Component(
        name=manifest.model,
        version=manifest.revision or "",
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{manifest.model}",
        licenses=[DisjunctiveLicense(name=manifest.licence)],
        components=[
            Component(name=name, type=ComponentType.FILE, bom_ref=name, hashes=[_sha256(digest)])
            for name, digest in names.items()
        ],
    )


def _sha256(digest: str) -> HashType:
    """Describe a SHA-256 in hexadecimal digits."""
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _is_licence(name: str) -> bool:
    """Return whether a file of a wheel is a licence text; every file in `licenses` of its metadata is one."""
    path = PurePosixPath(name)
    if name.endswith("/") or path.suffix in {".py", ".pyc", ".pyi"}:
        return False
    if ".dist-info/licenses/" in name:
        return True
    stem = path.name.lower().replace("-", "").replace("_", "")
    return any(stem.startswith(word) for word in LICENCE_WORDS)
