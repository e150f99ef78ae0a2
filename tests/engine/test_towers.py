"""Towers that are not on a GPU, and what is said when a file is not one."""

import numpy as np
import pytest

from clapedge.errors import BundleError, ProviderError
from clapedge.model.bundle import Bundle, demo_directory
from clapedge.model.towers import AudioTower, TextTower


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}", b"no JSON"])
def test_a_tokenizer_that_is_none_is_one_line(content: bytes) -> None:
    bundle = Bundle.open(demo_directory())
    path = bundle.path(bundle.file("text", "fp32"))
    with pytest.raises(BundleError, match=r"the tokenizer beside .* is none .*; copy the bundle again"):
        TextTower(path, content, max_tokens=77)


def test_embeddings_that_are_no_numbers_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open()
    tower = AudioTower(bundle.path(bundle.file("audio", "fp32")))
    monkeypatch.setattr(tower, "_run", lambda *_: np.full((1, 256), np.nan, np.float32))
    with pytest.raises(ProviderError, match=r"audio\.fp32\.onnx gives no numbers on cpu"):
        tower.embed(np.zeros((1, 4, 1001, 64), np.float32), np.zeros(1, bool))
