"""The parts of the training: the fast tower is the real one, batches are what they claim to be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import ClapModel, RobertaTokenizer

from clapedge.errors import UsageError
from clapedge_demo import captions, card, data
from clapedge_demo.anchors import CLASSES, make_anchors
from clapedge_demo.batches import Batch, Batches, Recipe
from clapedge_demo.data import Sounds
from clapedge_demo.model import SPECIAL_TOKENS, new_model, train_tokenizer
from clapedge_demo.tower import TrainingTower
from clapedge_demo.training import Schedule, Trainer
from clapedge_demo.wordings import RECORDED, SYNTHESISED

FLOAT32_ROUNDING = 1e-6
"""Unit embeddings of two float32 computations of one function differ by a few units of the last place."""


@pytest.fixture(scope="module")
def model() -> ClapModel:
    """Return an untrained model whose every weight matters."""
    torch.manual_seed(0)
    model = new_model(300)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def tokenizer() -> RobertaTokenizer:
    """Return the tokenizer that the demo trains."""
    return train_tokenizer(captions.training_texts())


@pytest.fixture(scope="module")
def batches() -> Batches:
    """Return batches of noise that stands for sounds."""
    rng = np.random.default_rng(0)
    lengths = {kind: (501, 300) if kind in RECORDED else (801, 301) for kind in CLASSES}

    def sounds(kinds: tuple[str, ...]) -> Sounds:
        mels = [(rng.normal(-30, 9, (count, 64)).astype(np.float16), kind) for kind in kinds for count in lengths[kind]]
        return Sounds(tuple(mel for mel, _ in mels), tuple(kind for _, kind in mels))

    recipe = Recipe(batch=12, longer=4, pretraining=2, halved=4)
    return Batches(sounds(tuple(RECORDED)), sounds(CLASSES), recipe=recipe, steps=6)


@torch.no_grad()
def test_the_training_tower_computes_what_transformers_computes(model: ClapModel) -> None:
    torch.manual_seed(1)
    whole, crops = torch.randn(4, 1001, 64) * 10 - 40, torch.randn(2, 3, 1001, 64) * 10 - 40
    features = whole[:, None].repeat(1, 4, 1, 1)
    features[-2:, 1:] = crops
    longer = torch.tensor([[False], [False], [True], [True]])
    expected = model.get_audio_features(input_features=features, is_longer=longer).pooler_output
    found = TrainingTower(model)(whole, crops)
    torch.testing.assert_close(found, F.normalize(expected, dim=-1), atol=FLOAT32_ROUNDING, rtol=0)


@torch.no_grad()
def test_half_a_clip_goes_through_the_same_weights(model: ClapModel) -> None:
    tower = TrainingTower(model, quarters=2)
    found = tower(torch.randn(3, 501, 64), torch.randn(1, 3, 501, 64))
    assert found.shape == (3, 256)
    assert {id(parameter) for parameter in tower.parameters()} <= {id(parameter) for parameter in model.parameters()}


def test_a_batch_is_a_function_of_its_number(batches: Batches) -> None:
    first, again, other = batches[3], batches[3], batches[2]
    assert torch.equal(first.whole, again.whole)
    assert torch.equal(first.crops, again.crops)
    assert not torch.equal(first.targets, other.targets)


@pytest.mark.parametrize(("step", "frames"), [(0, 501), (3, 501), (4, 1001)])
def test_batches_hear_half_clips_first_and_whole_ones_then(batches: Batches, step: int, frames: int) -> None:
    batch = batches[step]
    assert batch.whole.shape == (12, frames, 64)
    assert batch.crops.shape == (4, 3, frames, 64)
    assert bool(torch.isfinite(batch.whole).all())
    assert float(batch.whole.max()) <= 60.0
    torch.testing.assert_close(batch.targets.sum(1), torch.ones(12))


def test_the_parts_of_a_batch_are_the_batch(batches: Batches) -> None:
    batch = batches[5]
    parts: list[Batch] = list(batch.split(3))
    assert sum(len(part.whole) for part in parts) == 12
    assert torch.equal(torch.cat([part.crops for part in parts]), batch.crops)
    rows = {row.numpy().tobytes() for row in batch.targets}
    assert {row.numpy().tobytes() for part in parts for row in part.targets} == rows


def test_anchors_are_orthogonal_and_always_the_same() -> None:
    anchors = make_anchors(256)
    torch.testing.assert_close(anchors @ anchors.T, torch.eye(len(CLASSES)), atol=FLOAT32_ROUNDING, rtol=0)
    assert torch.equal(anchors, make_anchors(256))


def test_the_learning_rate_rises_holds_and_falls_to_zero() -> None:
    schedule = Schedule(steps=1000, warmup=100, decay=0.5, rate=1.0)
    assert schedule.rate_at(0) == pytest.approx(0.01)
    assert schedule.rate_at(300) == 1.0
    assert schedule.rate_at(750) == pytest.approx(0.5)
    assert schedule.rate_at(999) < 1e-4


def test_the_tokenizer_is_the_same_through_its_file(tokenizer: RobertaTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    read = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("This is a sound of dog barking.", "Müllabfuhr 轴承异响", ""):
        assert read.encode(text).ids == tokenizer(text)["input_ids"]
    assert [read.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))


def test_a_folder_without_a_table_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clips\.csv.*--esc10"):
        data.read_table(tmp_path)


def test_figures_are_put_into_the_card_and_replaced(tmp_path: Path) -> None:
    row = data.Recording(Path("rain/1.ogg"), "rain", 1, ("title", "author", "source", "CC0"))
    card.write_card(tmp_path, [row], steps=10, seed=0, fold=4)
    path = tmp_path / "README.md"
    for table in ("| first |", "| second |"):
        card.write_figures(path, table, "command")
    text = path.read_text(encoding="utf-8")
    assert "| second |" in text
    assert "| first |" not in text
    assert all(kind in text for kind in (*RECORDED, *SYNTHESISED))
    assert "rain/1.ogg,rain,title,author,source,CC0" in (tmp_path / "ATTRIBUTION.csv").read_text(encoding="utf-8")


def test_a_training_goes_on_where_it_was_saved_and_leaves_the_text_tower_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = Trainer(new_model(300), Schedule(), seed=0)
    trainer.step = 7
    trainer.save(tmp_path / "state.pt")
    other = new_model(300)
    text = {name: value.clone() for name, value in other.state_dict().items() if name.startswith("text_")}
    resumed = Trainer(other, Schedule(), seed=0)
    resumed.resume(tmp_path / "state.pt")
    assert resumed.step == 7
    saved, found = trainer.model.state_dict(), other.state_dict()
    assert all(torch.equal(found[name], value) for name, value in text.items())
    assert all(torch.equal(found[name], saved[name]) for name in saved if name.startswith("audio_"))
