"""Embeddings kept on disk: what was cut off anywhere is mended, and what does not fit is refused."""

import os
import random
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest

from clapedge.arrays import Float32Array
from clapedge.batch.embedding_store import EmbeddingStore
from clapedge.batch.embedding_writer import EmbeddingWriter, appending
from clapedge.batch.fingerprint import Stamp
from clapedge.batch.run import search_store
from clapedge.batch.store_files import HEADER_BYTES, INDEX_NAME, ROWS_NAME, EmbeddingConfig
from clapedge.errors import ClapEdgeWarning, LabelError, StorageError, UsageError
from clapedge.features.front_end import FrontEnd
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.scoring import similarity as scoring
from clapedge.scoring.result import UNTIMED, Coverage, RecordingEmbeddings

SIZE = 8
CONFIG = EmbeddingConfig(
    model="model",
    weights="random",
    variant="fp32",
    provider="cpu",
    audio_tower="a",
    text_tower="t",
    embedding_size=SIZE,
    front_end=FrontEnd(),
    fusion="long",
    options={"window": "slide", "hop": 10.0},
)
NAMES = ("a.wav", "b.wav", "雨.wav", "d.wav")
CLIPS = (1, 3, 1, 2)


def unit_rows(count: int, seed: int) -> Float32Array:
    """Make random unit rows."""
    rows = np.random.default_rng(seed).normal(size=(count, SIZE)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def embedded(index: int) -> RecordingEmbeddings:
    """Make the embeddings of one of the recordings."""
    spans = tuple((10.0 * clip, 10.0 * clip + 10.0) for clip in range(CLIPS[index]))
    coverage = Coverage(0.0, spans[-1][1], spans[-1][1])
    return RecordingEmbeddings(NAMES[index], unit_rows(CLIPS[index], index), spans, coverage, (), UNTIMED)


def fill(archive: EmbeddingWriter) -> None:
    """Add the recordings that an archive does not hold."""
    for index, name in enumerate(NAMES):
        if not archive.is_unchanged(name, Stamp(1, index)):
            archive.add(name, Stamp(1, index), f"hash of {name}", embedded(index))


def content(directory: Path) -> dict[str, bytes]:
    """Return the files of an archive."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Make an archive."""
    with appending(tmp_path / "kept", CONFIG) as archive:
        fill(archive)
    return tmp_path / "kept"


def test_what_is_kept_is_read_back_and_numpy_reads_it_too(kept: Path) -> None:
    archive = EmbeddingStore.open(kept)
    assert tuple(archive.by_file) == NAMES
    expected = np.stack([scoring.mean_embedding(embedded(index).clips) for index in range(len(NAMES))])
    np.testing.assert_array_equal(archive.embeddings([archive.by_file[name] for name in NAMES]), expected)
    assert np.load(kept / ROWS_NAME, allow_pickle=False).shape == (sum(CLIPS), SIZE)


@pytest.mark.parametrize("name", [INDEX_NAME, ROWS_NAME])
def test_an_archive_cut_off_anywhere_goes_on_to_the_same_bytes(kept: Path, name: str) -> None:
    whole = content(kept)
    length = len(whole[name])
    chance = random.Random(name)  # noqa: S311 - no secret
    for cut in [0, 1, HEADER_BYTES, length - 1, *(chance.randrange(length) for _ in range(40))]:
        (kept / name).write_bytes(whole[name][:cut])
        with appending(kept, CONFIG) as archive:
            fill(archive)
        assert content(kept) == whole


def test_a_row_without_its_line_is_written_over(kept: Path) -> None:
    whole = content(kept)
    with (kept / ROWS_NAME).open("ab") as rows, (kept / INDEX_NAME).open("ab") as index:
        rows.write(b"half a row")
        index.write(b'{"file":"half a line')
    assert len(EmbeddingStore.open(kept).by_file) == len(NAMES)
    with appending(kept, CONFIG):
        pass
    assert content(kept) == whole


def test_a_copy_under_another_name_shares_its_rows(kept: Path) -> None:
    with appending(kept, CONFIG) as archive:
        known = archive.same_content("hash of b.wav")
        assert known is not None
        archive.add_copy("z.wav", Stamp(1, 9), known)
    opened = EmbeddingStore.open(kept)
    assert opened.by_file["z.wav"].row == opened.by_file["b.wav"].row
    assert len(opened.clips()) == sum(CLIPS)


def test_a_recording_that_changed_is_found_by_its_newest_content_alone(kept: Path) -> None:
    with appending(kept, CONFIG) as archive:
        assert not archive.is_unchanged("a.wav", Stamp(2, 0))
        archive.add("a.wav", Stamp(2, 0), "other hash", embedded(3))
    opened = EmbeddingStore.open(kept)
    assert opened.by_file["a.wav"].row == sum(CLIPS)
    assert len(opened.by_file) == len(NAMES)


def test_embeddings_made_in_another_way_are_not_mixed_in(kept: Path) -> None:
    other = msgspec.structs.replace(CONFIG, variant="int8")
    with pytest.raises(UsageError, match="made with variant fp32, not int8"), appending(kept, other):
        pass


def test_the_one_option_that_differs_is_named(kept: Path) -> None:
    other = msgspec.structs.replace(CONFIG, options={**CONFIG.options, "start": 3.0})
    with pytest.raises(UsageError, match=r"made with start None, not 3\.0; use"), appending(kept, other):
        pass


def test_an_archive_to_which_nothing_was_added_is_begun_anew_in_another_way(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    with appending(path, CONFIG):
        pass
    other = msgspec.structs.replace(CONFIG, variant="int8")
    with appending(path, other) as archive:
        archive.add("a.wav", Stamp(1, 0), "hash", embedded(0))
    assert EmbeddingStore.open(path).config == other


@pytest.mark.parametrize("end", [0, HEADER_BYTES, -1])
def test_embeddings_that_are_cut_off_are_never_passed_over_in_silence(kept: Path, end: int) -> None:
    rows, whole = kept / ROWS_NAME, EmbeddingStore.open(kept).by_file
    os.truncate(rows, end if end >= 0 else rows.stat().st_size - 1)
    with pytest.raises(StorageError, match=rf"embeddings\.npy is cut off: \d of the {len(whole)} .*clapedge embed"):
        EmbeddingStore.open(kept)
    with appending(kept, CONFIG) as archive:
        for at, name in enumerate(NAMES):
            if name not in archive.by_file:
                archive.add(name, Stamp(1, at), f"hash of {name}", embedded(at))
    assert EmbeddingStore.open(kept).by_file.keys() == whole.keys()


@pytest.mark.parametrize("damage", [b"\x00\xff", b'{"file": 1}', b'{"file":"b.wav",', b"[" * 9])
def test_a_damaged_line_costs_its_recording_alone_and_is_mended_by_embedding_again(kept: Path, damage: bytes) -> None:
    index = kept / INDEX_NAME
    lines = index.read_bytes().splitlines(keepends=True)
    lines[1] = damage + b"\n"
    index.write_bytes(b"".join(lines))
    with pytest.warns(ClapEdgeWarning, match=r"index\.jsonl is damaged: 1 of its recordings .*left out; embed again"):
        opened = EmbeddingStore.open(kept)
    assert tuple(opened.by_file) == (NAMES[0], *NAMES[2:])
    with appending(kept, CONFIG) as archive:
        fill(archive)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mended = EmbeddingStore.open(kept)
    assert set(mended.by_file) == set(NAMES)
    for index_of, name in enumerate(NAMES):
        (recording,) = mended.recordings([name])
        np.testing.assert_array_equal(recording.clips, embedded(index_of).clips)


def test_one_process_writes_at_a_time(kept: Path) -> None:
    with (
        appending(kept, CONFIG),
        pytest.raises(StorageError, match="being written by another process"),
        appending(kept, CONFIG),
    ):
        pass


def test_what_is_no_archive_is_refused(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no embeddings"):
        EmbeddingStore.open(tmp_path)
    with pytest.raises(StorageError, match="holds other files"), appending(tmp_path, CONFIG):
        pass
    (kept / INDEX_NAME).write_text('{"file": 1}\n')
    with pytest.raises(StorageError, match=r"index\.jsonl is damaged"):
        EmbeddingStore.open(kept)
    (kept / "archive.json").write_text("{")
    with pytest.raises(StorageError, match=r"archive\.json is damaged"):
        EmbeddingStore.open(kept)


def test_rows_that_do_not_fit_their_index_are_refused(kept: Path) -> None:
    archive = EmbeddingStore.open(kept)
    np.save(kept / ROWS_NAME, unit_rows(2, 0))
    with pytest.raises(StorageError, match="not the file of its index"):
        archive.clips()


def test_search_finds_the_clip_and_where_it_lies(kept: Path) -> None:
    archive = EmbeddingStore.open(kept)
    wanted = embedded(1).clips[2:]
    query = EmbeddedLabels(LabelSet.of(["words"]), wanted, "t")
    matches = search_store(archive, query, count=3)
    assert (matches[0].file, matches[0].start, matches[0].end) == ("b.wav", 20.0, 30.0)
    assert matches[0].similarity == pytest.approx(1.0)
    similarities = [match.similarity for match in matches]
    assert similarities == sorted(similarities, reverse=True)
    with pytest.raises(LabelError, match="another model"):
        search_store(archive, EmbeddedLabels(LabelSet.of(["words"]), wanted, "other"), count=1)


def windows(similarities: list[float]) -> RecordingEmbeddings:
    """Make windows of 2 s every second with these cosines with `TOWARDS`."""
    cosines = np.array(similarities, np.float32)
    clips = np.zeros((len(cosines), SIZE), np.float32)
    clips[:, 0], clips[:, 1] = cosines, np.sqrt(1 - cosines**2)
    spans = tuple((float(at), at + 2.0) for at in range(len(cosines)))
    end = spans[-1][1]
    return RecordingEmbeddings("night.wav", clips, spans, Coverage(0.0, end, end), (), UNTIMED)


def test_windows_that_overlap_are_one_match_an_event(tmp_path: Path) -> None:
    quiet = [0.1, 0.12, 0.1, 0.08, 0.1, 0.11, 0.1, 0.1]
    recording = windows([*quiet, 0.6, 0.9, 0.85, 0.8, *quiet, 0.7, *quiet])
    config = msgspec.structs.replace(CONFIG, options={"window": "slide", "length": 2.0, "hop": 1.0})
    with appending(tmp_path / "kept", config) as archive:
        archive.add("night.wav", Stamp(1, 0), "hash", recording)
    query = EmbeddedLabels(LabelSet.of(["words"]), np.eye(1, SIZE, dtype=np.float32), "t")
    first, second, third = search_store(EmbeddingStore.open(tmp_path / "kept"), query, count=3)
    assert (first.start, first.end, second.start, second.end) == (8.0, 13.0, 20.0, 22.0)
    assert [first.similarity, second.similarity] == pytest.approx([0.9, 0.7])
    assert third.similarity < 0.2
    assert len(search_store(EmbeddingStore.open(tmp_path / "kept"), query, count=99)) < len(recording.spans) / 2


def test_cosines_do_not_depend_on_how_many_are_scored() -> None:
    audio, labels = unit_rows(300, 1), unit_rows(7, 2)
    together = scoring.similarities(audio, labels)
    for step in (1, 3, 64):
        apart = [scoring.similarities(audio[i : i + step], labels) for i in range(0, len(audio), step)]
        np.testing.assert_array_equal(np.concatenate(apart), together)
