"""The cache of prompt embeddings: known words are not encoded again, and a broken cache costs only time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from clapedge.cache_dir import default_directory
from clapedge.labels.prompt_cache import PromptCache


class Encoder:
    """Counts what it is asked to encode."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked += prompts
        return np.array([[len(prompt), hash(prompt) % 97, 1] for prompt in prompts], np.float32)


def test_a_known_prompt_is_not_encoded_again(tmp_path: Path) -> None:
    first, second = Encoder(), Encoder()
    rows = PromptCache("tower", directory=tmp_path).encode(["rain", "wind"], first)
    again = PromptCache("tower", directory=tmp_path).encode(["wind", "dog", "rain", "wind"], second)
    assert (first.asked, second.asked) == (["rain", "wind"], ["dog"])
    np.testing.assert_array_equal(again[[2, 0, 3]], rows[[0, 1, 1]])


@pytest.mark.parametrize("other", [("two", "tokenizer"), ("one", "other tokenizer")])
def test_another_text_tower_or_tokenizer_has_its_own_cache(tmp_path: Path, other: tuple[str, str]) -> None:
    encoder = Encoder()
    PromptCache("one", "tokenizer", directory=tmp_path).encode(["rain"], encoder)
    PromptCache(*other, directory=tmp_path).encode(["rain"], encoder)
    assert encoder.asked == ["rain", "rain"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x93NUMPY\x01\x00"])
def test_a_damaged_entry_is_encoded_again_and_mended(tmp_path: Path, content: bytes) -> None:
    PromptCache("tower", directory=tmp_path).encode(["rain"], Encoder())
    (entry,) = tmp_path.rglob("*.npy")
    entry.write_bytes(content)
    mending, reading = Encoder(), Encoder()
    PromptCache("tower", directory=tmp_path).encode(["rain"], mending)
    PromptCache("tower", directory=tmp_path).encode(["rain"], reading)
    assert (mending.asked, reading.asked) == (["rain"], [])


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "prompts").write_text("a file where the directory would be")
    assert PromptCache("tower", directory=tmp_path).encode(["rain"], Encoder()).shape == (1, 3)


def test_a_full_disk_is_not_filled_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fill)
    assert PromptCache("tower", directory=tmp_path).encode(["rain"], Encoder()).shape == (1, 3)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    PromptCache("tower", directory=tmp_path).encode(["rain", "雨"], Encoder())
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".npy"}


def test_the_environment_names_the_cache_or_switches_it_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLAPEDGE_CACHE", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.setenv("CLAPEDGE_CACHE", "")
    assert default_directory() is None
