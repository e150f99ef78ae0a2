"""Packed bundles, on disk and behind a URL: nothing leaves its directory, and the manifest's files alone are taken."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.hub import Hub
from tests.transfer.conftest import NAME, contents, make_bundle

from clapedge import Bundle
from clapedge.errors import BundleDamagedError, BundleError, BundleNotFoundError, ClapEdgeError, UsageError
from clapedge.kit.tarball import write_archive
from clapedge.model.bundle import MANIFEST_NAME, sha256
from clapedge.model.transfer import archive
from clapedge.model.transfer.pull import pull

CUT = "kit.tar.gz"


@pytest.fixture
def packed(bundle: Bundle, tmp_path: Path) -> Path:
    """Pack the bundle as a kit holds it, among other files."""
    kit = tmp_path / "clapedge-kit"
    kit.mkdir()
    bundle.directory.rename(kit / "bundle")
    (kit / "SHA256SUMS").write_text("of other files")
    target = tmp_path / CUT
    write_archive(kit, target)
    (kit / "bundle").rename(bundle.directory)
    return target


def url(hub: Hub, packed: Path, *, host: str = "127.0.0.1") -> str:
    """Serve an archive and return its URL."""
    folder = packed.parent / "web"
    folder.mkdir(exist_ok=True)
    (folder / packed.name).write_bytes(packed.read_bytes())
    hub.add("web/site", folder)
    return f"http://{host}:{hub.port}/cdn/{sha256(packed)}?name={packed.name}"


def test_an_archive_is_unpacked_and_nothing_but_the_bundle(bundle: Bundle, packed: Path, tmp_path: Path) -> None:
    pulled = pull(str(packed), tmp_path / "out", sha256=sha256(packed).upper())
    assert contents(pulled.directory) == contents(bundle.directory)
    part = pull(str(packed), tmp_path / "part", variants=["int8"], text=False)
    assert contents(part.directory).keys() == {MANIFEST_NAME, "audio.int8.onnx", "labels/yard.npz"}
    assert part.faults() == []


def test_a_packed_directory_without_a_folder_will_do(bundle: Bundle, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "plain.tar", "w") as plain:
        plain.add(bundle.directory, arcname=".")
    assert contents(pull(str(tmp_path / "plain.tar"), tmp_path / "out").directory) == contents(bundle.directory)


def rewritten(packed: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Write an archive anew with its members changed."""
    target = packed.with_name("hostile.tar.gz")
    with tarfile.open(packed) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            stream = old.extractfile(member)
            assert stream is not None
            entry, content = change(member, stream.read())
            entry.size = 0 if entry.issym() else len(content)
            new.addfile(entry, io.BytesIO(content))
    return target


def link(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """Put a link to a file of the machine in the place of a tower."""
    if member.name.endswith("audio.int8.onnx"):
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member, content


def longer(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """Make a tower longer than the manifest says."""
    return member, content * 2 if member.name.endswith("audio.int8.onnx") else content


def altered(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """Change a byte of a tower."""
    return member, content[:-1] + b"?" if member.name.endswith("audio.int8.onnx") else content


def escaping(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """Let the manifest name a file outside, which the archive holds."""
    if member.name.endswith("audio.int8.onnx"):
        member.name = "clapedge-kit/bundle/../../outside"
    if member.name.endswith(MANIFEST_NAME):
        manifest = json.loads(content)
        manifest["files"][1]["path"] = "../../outside"
        content = json.dumps(manifest).encode()
    return member, content


def twice(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """Add a second manifest."""
    if member.name.endswith("SHA256SUMS"):
        member.name = f"clapedge-kit/{MANIFEST_NAME}"
    return member, content


def none(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """Hide the manifest."""
    member.name = member.name.replace(MANIFEST_NAME, "other.json")
    return member, content


@pytest.mark.parametrize(
    ("change", "kind", "complaint"),
    [
        (link, BundleDamagedError, "is missing"),
        (longer, BundleDamagedError, "has 100000 bytes where the manifest says 50000"),
        (altered, BundleDamagedError, "SHA-256"),
        (escaping, BundleDamagedError, "leads out of the bundle"),
        (twice, BundleDamagedError, "holds 2 bundles"),
        (none, BundleNotFoundError, "holds no bundle"),
    ],
)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(
    packed: Path,
    tmp_path: Path,
    change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]],
    kind: type[ClapEdgeError],
    complaint: str,
) -> None:
    hostile = rewritten(packed, change)
    before = {path for path in tmp_path.rglob("*") if ".out.pull" not in path.parts}
    with pytest.raises(kind, match=complaint):
        pull(str(hostile), tmp_path / "out")
    assert {path for path in tmp_path.rglob("*") if ".out.pull" not in path.parts} == before
    assert not [path for path in (tmp_path / ".out.pull").rglob("*") if path.is_symlink()]


def test_an_archive_that_unpacks_to_too_much_is_refused(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, value in (("MAX_MEMBERS", 3), ("MAX_UNPACKED", 100_000)):
        with monkeypatch.context() as patch:
            patch.setattr(archive, limit, value)
            with pytest.raises(BundleDamagedError, match="unpacks to too much"):
                pull(str(packed), tmp_path / "out")


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9])
def test_a_damaged_archive_is_refused(packed: Path, tmp_path: Path, part: float) -> None:
    content = packed.read_bytes()
    packed.write_bytes(content[: int(part * len(content))])
    with pytest.raises(BundleError, match=CUT):
        pull(str(packed), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_not_the_one_is_refused_unread(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleDamagedError, match=r"has SHA-256 .*, not abc; get it again"):
        pull(str(packed), tmp_path / "out", sha256="abc")
    with pytest.raises(BundleNotFoundError, match="does not exist"):
        pull(str(tmp_path / "none.tar.gz"), tmp_path / "out")


def test_an_archive_is_fetched_from_a_url_and_resumed_by_a_later_run(
    hub: Hub, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    address = url(hub, packed)
    hub.cuts[CUT] = [500, 0, 0, 0]
    with pytest.raises(BundleError, match="run it again: what has arrived is kept") as caught:
        pull(address, tmp_path / "out")
    assert "?" not in str(caught.value)  # a signed address is a secret
    pulled = pull(address, tmp_path / "out", variants=["int8"], sha256=sha256(packed))
    assert pulled.faults() == []
    assert [one.range for one in hub.requests] == [None, *["bytes=500-"] * 4]
    assert {one.token for one in hub.requests} == {None}
    assert not (tmp_path / ".out.pull").exists()


def test_halves_of_two_archives_are_not_kept(hub: Hub, packed: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.pull").mkdir()
    (tmp_path / ".out.pull" / "archive.part").write_bytes(b"of another archive")
    address = url(hub, packed)
    with pytest.raises(BundleDamagedError, match="cannot be read"):
        pull(address, tmp_path / "out")
    assert pull(address, tmp_path / "out").faults() == []


def test_a_larger_leftover_than_the_file_is_fetched_anew(hub: Hub, packed: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.pull").mkdir()
    (tmp_path / ".out.pull" / "archive.part").write_bytes(b"?" * 10**6)
    assert pull(url(hub, packed), tmp_path / "out").faults() == []


@pytest.mark.parametrize("address", ["http://example.org/kit.tar.gz", "ftp://example.org/kit.tar.gz", "file:///kit"])
def test_an_open_connection_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match="is not encrypted; use an https address"):
        pull(address, tmp_path / "out")


def test_an_address_that_does_not_exist_is_said_at_once(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"/cdn/none is refused \(403\)"):
        pull(f"{hub.url}/cdn/none", tmp_path / "out")
    with pytest.raises(BundleError, match=r"does not exist|is refused"):
        pull(f"{hub.url}/{NAME}/resolve/main/none", tmp_path / "out")
    hub.stop()
    with pytest.raises(BundleError, match=r"cannot be downloaded .*run it again"):
        pull(f"{hub.url}/kit.tar.gz", tmp_path / "out")


def test_offline_mode_is_honoured_for_urls_too(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BundleError, match="since HF_HUB_OFFLINE is set"):
        pull(f"{hub.url}/kit.tar.gz", tmp_path / "out")
    assert hub.requests == []


def test_a_directory_in_use_is_not_replaced(packed: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "out")
    with pytest.raises(UsageError, match="holds a bundle already"):
        pull(str(packed), other.directory)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    with pytest.raises(UsageError, match="something else than a bundle"):
        pull(str(packed), tmp_path / "full", force=True)
    with pytest.raises(UsageError, match='output="DIR"'):
        pull(str(packed))
    with pytest.raises(UsageError, match="has no revisions"):
        pull(str(packed), tmp_path / "new", revision="main")
    assert pull(str(packed), other.directory, force=True).faults() == []
