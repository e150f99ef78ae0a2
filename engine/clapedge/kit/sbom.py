"""What a kit holds and under which licences: a CycloneDX list, and the licence texts out of the wheels."""

import json
import uuid
import zipfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from clapedge.kit.tarball import epoch
from clapedge.kit.wheelhouse import Wheel
from clapedge.model.bundle import Bundle, sha256

SPECIFICATION = "1.6"
"""Version of CycloneDX that is written."""

LICENCE_WORDS = ("licen", "copying", "notice", "authors", "thirdparty")
"""What the names of licence texts in a wheel begin with or contain, in small letters and without `-` and `_`."""

LONGEST_NAME = 80
"""Characters up to which the old field `License` is a name; some packages put the whole text there."""

UNKNOWN = "see the licences in the package"


def bill(name: str, version: str, wheels: Sequence[Wheel], bundle: Bundle) -> str:
    """Return the list of a kit's parts as CycloneDX JSON.

    Args:
        name: of the kit.
        version: of the engine.
        wheels: every wheel of the kit.
        bundle: the model.
    """
    components = [*map(_component, wheels), _model(bundle)]
    made = datetime.fromtimestamp(epoch(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    content = json.dumps([name, components], sort_keys=True)
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        # the same parts have the same number, so that a kit can be made twice
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {
            "timestamp": made,
            "component": {"type": "application", "name": name, "version": version, "bom-ref": name},
        },
        "components": components,
        "dependencies": [{"ref": name, "dependsOn": [str(each["bom-ref"]) for each in components]}],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def write_licences(wheels: Sequence[Wheel], directory: Path) -> None:
    """Write the licence texts of every wheel into a directory each; of one without any, what its metadata says."""
    for wheel in wheels:
        place = directory / f"{wheel.name}-{wheel.version}"
        place.mkdir(parents=True)
        with zipfile.ZipFile(wheel.path) as archive:
            texts = [name for name in archive.namelist() if _is_licence(name)]
            for name in texts:
                parts = PurePosixPath(name).parts
                (place / "_".join(parts[1:] or parts)).write_bytes(archive.read(name))
        if not texts:
            said = f"{wheel.name} {wheel.version} carries no licence text. Its metadata says: {licence(wheel)}\n"
            (place / "METADATA.txt").write_text(said, encoding="utf-8")


def licence(wheel: Wheel) -> str:
    """Return what a wheel's metadata calls its licence."""
    metadata = wheel.metadata
    named = [str(metadata[field] or "").strip() for field in ("License-Expression", "License")]
    classifiers = [str(each) for each in metadata.get_all("Classifier", []) if str(each).startswith("License ::")]
    names = [name for name in named if name and len(name) <= LONGEST_NAME and "\n" not in name]
    return next(iter(names), ", ".join(each.rpartition(" :: ")[2] for each in classifiers) or UNKNOWN)


def _component(wheel: Wheel) -> dict[str, object]:
    """Describe a wheel."""
    place = f"pkg:pypi/{wheel.name}@{wheel.version}"
    expression = wheel.metadata["License-Expression"]
    return {
        "type": "library",
        "bom-ref": place,
        "name": wheel.name,
        "version": wheel.version,
        "hashes": [{"alg": "SHA-256", "content": sha256(wheel.path)}],
        "licenses": [{"expression": str(expression)} if expression else {"license": {"name": licence(wheel)}}],
        "purl": place,
        "properties": [{"name": "clapedge:file", "value": f"wheels/{wheel.path.name}"}],
    }


def _model(bundle: Bundle) -> dict[str, object]:
    """Describe the bundle, file by file."""
    manifest = bundle.manifest
    parts = [
        {
            "type": "file",
            "bom-ref": f"bundle/{file.path}",
            "name": f"bundle/{file.path}",
            "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        }
        for file in manifest.files
    ]
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{manifest.model}",
        "name": manifest.model,
        "version": manifest.revision or "",
        "licenses": [{"license": {"name": manifest.licence}}],
        "components": parts,
    }


def _is_licence(name: str) -> bool:
    """Tell whether a file of a wheel is a licence text; in `licenses` of the metadata, every one is."""
    path = PurePosixPath(name)
    if name.endswith("/") or path.suffix in {".py", ".pyc", ".pyi"}:
        return False
    if ".dist-info/licenses/" in name:
        return True
    stem = path.name.lower().replace("-", "").replace("_", "")
    return any(stem.startswith(word) for word in LICENCE_WORDS)
