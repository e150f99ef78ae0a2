"""Bundles from and to the hub, over a stand-in on loopback: resumed, checked and kept."""

import json
import shutil
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.hub import Hub
from tests.transfer.conftest import NAME, SOURCE, contents, make_bundle

from clapedge import Bundle, ClapEdgeWarning, Engine
from clapedge.cache_dir import CACHE_VARIABLE
from clapedge.errors import (
    BundleDamagedError,
    BundleError,
    BundleNotFoundError,
    ClapEdgeError,
    MissingExtraError,
    UsageError,
)
from clapedge.model.bundle import MANIFEST_NAME, demo_directory, write_manifest
from clapedge.model.transfer import pull as pulling
from clapedge.model.transfer.hub import Repository, push
from clapedge.model.transfer.pull import pull


def ranges(hub: Hub, name: str) -> list[str | None]:
    """Return the ranges of a large file that were asked for."""
    return [one.range for one in hub.requests if one.path.startswith("/cdn/") and one.path.endswith(name)]


def test_a_bundle_is_fetched_whole_and_leaves_nothing_else(served: Hub, bundle: Bundle, tmp_path: Path) -> None:
    pulled = pull(SOURCE, tmp_path / "out" / "thing")
    assert contents(pulled.directory) == contents(bundle.directory)
    assert pulled.faults() == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thing"]
    assert len(served.downloads()) == len(set(served.downloads()))


def test_one_variant_is_a_whole_bundle_of_fewer_files(served: Hub, tmp_path: Path) -> None:
    pulled = pull(SOURCE, tmp_path / "out", variants=["int8"])
    expected = ["audio.int8.onnx", "text.int8.onnx", "tokenizer.json", "labels/yard.npz"]
    assert [file.path for file in pulled.manifest.files] == expected
    assert contents(pulled.directory).keys() == {MANIFEST_NAME, *expected}
    assert pulled.faults() == []
    assert set(served.downloads()) == {MANIFEST_NAME, *expected}
    assert pulled.manifest.spaces == {"int8": Bundle.open(tmp_path / "source").manifest.spaces["int8"]}


def test_the_text_tower_may_stay_away(served: Hub, tmp_path: Path) -> None:
    pulled = pull(SOURCE, tmp_path / "out", variants=["int8", "fp32"], text=False)
    assert [file.path for file in pulled.manifest.files] == ["audio.fp32.onnx", "audio.int8.onnx", "labels/yard.npz"]
    assert not [name for name in served.downloads() if name.startswith(("text", "tokenizer"))]


def test_a_variant_that_is_not_there_is_named_before_anything_is_fetched(served: Hub, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no audio tower in fp16 \(present: audio\.fp32\.onnx, audio\.int8\.onnx\)"):
        pull(SOURCE, tmp_path / "out", variants=["fp16"])
    assert served.downloads() == [MANIFEST_NAME]
    assert not (tmp_path / "out").exists()


def test_a_connection_that_breaks_is_resumed(served: Hub, tmp_path: Path) -> None:
    served.cuts["audio.int8.onnx"] = [20_000, 0, 10_000, 0]
    assert pull(SOURCE, tmp_path / "out").faults() == []
    asked = ["bytes=20000-", "bytes=20000-", "bytes=30000-", "bytes=30000-"]
    assert ranges(served, "audio.int8.onnx") == [None, *asked]


def test_a_pull_that_was_given_up_goes_on_where_it_was(served: Hub, tmp_path: Path) -> None:
    served.cuts["audio.int8.onnx"] = [20_000, 0, 0, 0]
    with pytest.raises(BundleError, match="run it again: what has arrived is kept"):
        pull(SOURCE, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    served.requests.clear()
    assert pull(SOURCE, tmp_path / "out").faults() == []
    assert ranges(served, "audio.int8.onnx") == ["bytes=20000-"]
    assert ranges(served, "audio.fp32.onnx") == []


def test_what_an_earlier_run_left_of_another_file_is_fetched_anew(served: Hub, tmp_path: Path) -> None:
    part = tmp_path / ".out.pull" / "bundle" / "audio.int8.onnx.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of another version")
    (part.parent / "audio.fp32.onnx").write_bytes(b"?" * 50_000)
    (part.parent / "audio.fp16.onnx").write_bytes(b"of another selection")
    pulled = pull(SOURCE, tmp_path / "out")
    assert pulled.faults() == []
    assert ranges(served, "audio.int8.onnx") == ["bytes=18-", None]
    assert not (pulled.directory / "audio.fp16.onnx").exists()


def test_a_file_that_is_not_the_manifests_is_refused_and_nothing_appears(served: Hub, tmp_path: Path) -> None:
    kept = make_bundle(tmp_path / "out")
    before = contents(kept.directory)
    served.lies.add("audio.int8.onnx")
    with pytest.raises(BundleDamagedError, match=r"audio\.int8\.onnx of hf:someone/thing.*SHA-256"):
        pull(SOURCE, tmp_path / "out", force=True)
    assert contents(kept.directory) == before
    served.lies.clear()
    assert contents(pull(SOURCE, tmp_path / "out", force=True).directory) == contents(tmp_path / "source")


def test_a_size_that_contradicts_the_manifest_is_refused_before_it_is_fetched(hub: Hub, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "source")
    (bundle.directory / "audio.int8.onnx").write_bytes(b"x" * 60_000)
    hub.add(NAME, bundle.directory)
    with pytest.raises(BundleError, match="has 60000 bytes where the manifest says 50000"):
        pull(SOURCE, tmp_path / "out")
    assert "audio.int8.onnx" not in hub.downloads()


@pytest.mark.parametrize("path", ["../outside.onnx", "/tmp/outside.onnx", "a\\..\\outside.onnx", MANIFEST_NAME])  # noqa: S108
def test_a_manifest_that_leads_elsewhere_is_refused(hub: Hub, bundle: Bundle, tmp_path: Path, path: str) -> None:
    manifest = json.loads((bundle.directory / MANIFEST_NAME).read_bytes())
    manifest["files"][0]["path"] = path
    (bundle.directory / MANIFEST_NAME).write_text(json.dumps(manifest))
    hub.add(NAME, bundle.directory)
    with pytest.raises(BundleDamagedError, match="do not use this bundle"):
        pull(SOURCE, tmp_path / "out")
    assert hub.downloads() == [MANIFEST_NAME]


@pytest.mark.parametrize(("limit", "value"), [("MAX_MANIFEST", 100), ("MAX_BYTES", 100)])
def test_what_is_too_large_is_refused(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(pulling, limit, value)
    with pytest.raises(BundleError, match="it is not a bundle"):
        pull(SOURCE, tmp_path / "out")
    assert "audio.int8.onnx" not in served.downloads()


@pytest.mark.parametrize("access", ["private", "gated"])
def test_a_token_goes_to_the_hub_and_never_to_its_storage(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, access: str
) -> None:
    served.access = access  # type: ignore[assignment]
    with pytest.raises(BundleError, match="HF_TOKEN"):
        pull(SOURCE, tmp_path / "out")
    served.requests.clear()
    served.use(monkeypatch, tmp_path / "hub-cache", token=served.token)
    pull(SOURCE, tmp_path / "out")
    assert {one.token for one in served.requests if one.path.startswith("/cdn/")} == {None}
    assert {one.token for one in served.requests if not one.path.startswith("/cdn/")} == {served.token}


@pytest.mark.parametrize(
    ("source", "kind", "complaint"),
    [
        ("hf:someone/else", BundleNotFoundError, "does not exist, or is private"),
        (f"{SOURCE}@v9", BundleNotFoundError, "has no revision 'v9'"),
        ("hf:someone/empty", BundleNotFoundError, "is no bundle"),
        ("hf:thing", UsageError, "is not hf:ORG/NAME"),
        ("hf:../thing", UsageError, "is not hf:ORG/NAME"),
        (f"{SOURCE}@", UsageError, "is not hf:ORG/NAME"),
        (f"{SOURCE}@../x", UsageError, "is none"),
    ],
)
def test_what_cannot_be_had_is_said(
    served: Hub, tmp_path: Path, source: str, kind: type[ClapEdgeError], complaint: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    served.add("someone/empty", tmp_path / "empty")
    with pytest.raises(kind, match=complaint):
        pull(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_hub_that_does_not_answer_is_said(served: Hub, tmp_path: Path) -> None:
    served.stop()
    with pytest.raises(BundleError, match="cannot be reached"):
        pull(SOURCE, tmp_path / "out")


def test_an_engine_needs_the_hub_the_first_time_alone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, demo_directory())
    samples = np.sin(np.arange(48_000, dtype=np.float32) / 10)
    rows = []
    for _ in range(2):
        with pytest.warns(ClapEdgeWarning, match="demo model"):
            engine = Engine.load(SOURCE, threads=1)
        rows.append(engine.embed_audio([samples]))
        assert engine.bundle.directory == tmp_path / "cache" / "bundles" / "someone--thing" / "main"
        hub.stop()
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # not even the library is needed then
    np.testing.assert_array_equal(rows[0], rows[1])


def test_the_kept_copy_changes_when_it_is_pulled_and_not_before(served: Hub, tmp_path: Path) -> None:
    first = contents(Bundle.open(SOURCE).directory)
    served.add(NAME, make_bundle(tmp_path / "newer").directory)
    assert contents(Bundle.open(SOURCE).directory) == first
    pulled = pull(SOURCE, variants=["int8"])
    assert pulled.directory == Bundle.open(SOURCE).directory
    assert (pulled.directory / "audio.int8.onnx").read_bytes() == (tmp_path / "newer/audio.int8.onnx").read_bytes()
    assert not (pulled.directory / "audio.fp32.onnx").exists()


def test_revisions_are_kept_apart(served: Hub, tmp_path: Path) -> None:
    commit = served.add(NAME, make_bundle(tmp_path / "newer").directory, revision="refs/pr/1")
    kept = {Bundle.open(name).directory for name in (SOURCE, f"{SOURCE}@refs/pr/1", f"{SOURCE}@{commit}")}
    assert {path.name for path in kept} == {"main", "refs--pr--1", commit}
    assert pull(SOURCE, revision=commit).directory.name == commit
    with pytest.raises(UsageError, match="two revisions"):
        pull(f"{SOURCE}@main", revision=commit)


def test_offline_mode_is_honoured_and_a_kept_copy_goes_on_working(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BundleError, match="HF_HUB_OFFLINE is set"):
        Bundle.open(SOURCE)
    assert served.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    Bundle.open(SOURCE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Bundle.open(SOURCE).faults() == []


def test_the_variable_of_the_default_bundle_may_name_a_repository(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAPEDGE_BUNDLE", SOURCE)
    assert Bundle.open().manifest.model == "thing"
    assert served.downloads()


def test_without_a_cache_there_is_nowhere_to_keep_it(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")
    with pytest.raises(BundleError, match=r"CLAPEDGE_CACHE turns the cache off.*-o DIR"):
        Bundle.open(SOURCE)
    assert served.requests == []


def test_without_the_hubs_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"hf:someone/thing needs .*clapedge\[hub\]"):
        pull(SOURCE, tmp_path / "out")


def test_a_bundle_is_pushed_in_one_commit_and_comes_back_the_same(
    hub: Hub, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle.directory / "notes.txt").write_text("not of the bundle")
    with pytest.raises(BundleError, match=r"HF_TOKEN|cannot be reached"):
        push(bundle, Repository(NAME))
    hub.use(monkeypatch, tmp_path / "hub-cache", token=hub.token)
    commit = push(bundle, Repository(NAME))
    assert len(hub.repositories[NAME]) == 2  # main and its one commit
    files = hub.repositories[NAME]["main"].files
    assert files.keys() == {file.path for file in bundle.manifest.files} | {MANIFEST_NAME, "README.md"}
    page = files["README.md"].path.read_text()
    assert page.startswith("---\nlicense: apache-2.0\n")
    assert f"clapedge bundle pull {SOURCE}\n" in page
    assert "- Knows nothing." in page
    pulled = pull(f"{SOURCE}@{commit}", tmp_path / "out")
    assert pulled.manifest == bundle.manifest
    assert pulled.faults() == []


def test_a_page_that_somebody_wrote_stays(
    hub: Hub, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.use(monkeypatch, tmp_path / "hub-cache", token=hub.token)
    (tmp_path / "written").mkdir()
    (tmp_path / "written" / "README.md").write_text("by hand")
    hub.add(NAME, tmp_path / "written")
    push(bundle, Repository(NAME))
    assert hub.repositories[NAME]["main"].files["README.md"].path.read_text() == "by hand"


def test_a_damaged_bundle_is_not_pushed(hub: Hub, bundle: Bundle) -> None:
    (bundle.directory / "text.fp32.onnx").write_bytes(b"?" * 50_000)
    with pytest.raises(BundleDamagedError, match="SHA-256"):
        push(bundle, Repository(NAME))
    with pytest.raises(UsageError, match="names a revision"):
        push(bundle, Repository(NAME, "v2"))
    assert hub.requests == []


def test_a_licence_that_nobody_knows_is_not_claimed(
    hub: Hub, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.use(monkeypatch, tmp_path / "hub-cache", token=hub.token)
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    shutil.copytree(bundle.directory, tmp_path / "other")
    write_manifest(tmp_path / "other", msgspec.structs.replace(bundle.manifest, licence="unknown"))
    push(Bundle.open(tmp_path / "other"), Repository(NAME))
    assert "license" not in hub.repositories[NAME]["main"].files["README.md"].path.read_text()
