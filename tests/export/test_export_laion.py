"""LAION's own checkpoints: a model in their names must become the model that it was."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch import Tensor
from transformers import ClapModel

from clapedge.errors import ModelError
from clapedge.features.front_end import FrontEnd
from clapedge_export.load import load_checkpoint
from clapedge_export.synthetic import byte_tokenizer

Change = Callable[[dict[str, Tensor]], object]

BLOCK_PARTS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "attention.self.relative_position_bias_table": "attn.relative_position_bias_table",
    "attention.self.relative_position_index": "attn.relative_position_index",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
"""Parts of a Swin block in transformers' names and in LAION's (`laion_clap/clap_module/htsat.py`)."""


def in_laions_names(model: ClapModel) -> dict[str, Tensor]:
    """Write the tensors of a model as LAION's training code saves them, with what only LAION's model has."""
    state = model.state_dict()
    result: dict[str, Tensor] = {}
    for key in state:
        name = key.replace("audio_model.audio_encoder.batch_norm", "audio_branch.bn0")
        name = name.replace("audio_model.audio_encoder", "audio_branch").replace("text_model", "text_branch")
        name = name.replace("projection.linear1", "projection.0").replace("projection.linear2", "projection.2")
        if "audio_branch.layers" in name and ".blocks." in name:
            if ".attention.self.key." in name or ".attention.self.value." in name:
                continue
            for part, laions in BLOCK_PARTS.items():
                name = name.replace(f".{part}", f".{laions}")
            if ".attention.self.query." in name:
                parts = [state[key.replace("query", part)] for part in ("query", "key", "value")]
                result[name.replace("attention.self.query", "attn.qkv")] = torch.cat(parts)
                continue
        result[name] = state[key]
    result.pop("text_branch.embeddings.token_type_ids")
    result["audio_branch.layers.0.blocks.1.attn_mask"] = torch.zeros(64, 64, 64)
    result["audio_branch.tscam_conv.weight"] = torch.zeros(4, 4, 2, 3)
    result["audio_transform.sequential.0.weight"] = torch.zeros(32, 32)
    return result


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tokenizer beside which the checkpoints have none."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_bytes(byte_tokenizer())
    return path


@pytest.mark.parametrize("mel_scale", ["htk", "slaney"], ids=["fused", "unfused"])
@pytest.mark.parametrize("prefix", ["", "module."], ids=["plain", "distributed"])
def test_a_checkpoint_in_laions_names_embeds_as_the_model_that_it_was(
    tmp_path: Path,
    tokenizer: Path,
    make_model: Callable[..., ClapModel],
    mels: Tensor,
    mel_scale: Literal["htk", "slaney"],
    prefix: str,
) -> None:
    fusion = mel_scale == "htk"
    model = make_model(fusion=fusion)
    state = {prefix + key: value for key, value in in_laions_names(model).items()}
    file = tmp_path / "630k-small.pt"
    torch.save({"epoch": 45, "name": "small", "best": np.float64(0.9), "state_dict": state, "optimizer": {}}, file)
    checkpoint = load_checkpoint(str(file), tokenizer=tokenizer)
    assert (checkpoint.name, checkpoint.weights, checkpoint.licence) == ("630k-small", "pretrained", "unknown")
    assert checkpoint.front_end == FrontEnd(fusion=fusion, mel_scale=mel_scale)
    is_longer, ids = torch.tensor([True, False]), torch.tensor([[0, 7, 8, 2]])
    features = mels[:2] if fusion else mels[:2, :1]
    with torch.inference_mode():
        for found, expected in (
            (checkpoint.model.get_audio_features(features, is_longer), model.get_audio_features(features, is_longer)),
            (checkpoint.model.get_text_features(ids), model.get_text_features(ids)),
        ):
            assert torch.equal(found.pooler_output, expected.pooler_output)
    assert torch.equal(checkpoint.model.logit_scale_a, model.logit_scale_a)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_checkpoint_of_any_pickle_protocol_is_read_whatever_lies_beside_its_tensors(
    tmp_path: Path, tokenizer: Path, fused_model: ClapModel, protocol: int
) -> None:
    optimizer = torch.optim.AdamW(fused_model.audio_projection.parameters())
    beside = {"scores": {"esc50": np.float32(0.9)}, "args": Namespace(lr=1e-4), "optimizer": optimizer.state_dict()}
    state = in_laions_names(fused_model)
    torch.save({**beside, "state_dict": state}, tmp_path / "trained.pt", pickle_protocol=protocol)
    model = load_checkpoint(str(tmp_path / "trained.pt"), tokenizer=tokenizer).model
    expected = fused_model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_the_sizes_of_htsat_base_are_read_off_the_tensors(
    tmp_path: Path, tokenizer: Path, make_model: Callable[..., ClapModel]
) -> None:
    shape = {
        "depths": [2, 2, 12, 2],
        "patch_embeds_hidden_size": 32,
        "hidden_size": 256,
        "num_attention_heads": [4, 8, 16, 32],
    }
    torch.save(in_laions_names(make_model(audio=shape)), tmp_path / "base.pt")
    config = load_checkpoint(str(tmp_path / "base.pt"), tokenizer=tokenizer).model.audio_model.config
    assert {
        name: list(value) if isinstance(value := getattr(config, name), tuple | list) else value for name in shape
    } == shape


def without(part: str) -> Change:
    """Return a change that drops every tensor with such a name."""
    return lambda state: {key: value for key, value in state.items() if part not in key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("audio_branch.layers"), "not a LAION checkpoint with an HTSAT"),
        (without("text_branch.encoder"), "not a LAION checkpoint with an HTSAT audio encoder and a RoBERTa"),
        (without("mel_conv2d"), "another way than aff_2d"),
        (without("audio_projection.0"), "lacks 2 tensors"),
        (lambda _: {"epoch": 3}, "holds no tensors"),
        (lambda _: [1, 2], "holds a list"),
    ],
)
def test_another_checkpoint_is_refused(
    tmp_path: Path, tokenizer: Path, fused_model: ClapModel, change: Change, message: str
) -> None:
    torch.save(change(in_laions_names(fused_model)), tmp_path / "other.pt")
    with pytest.raises(ModelError, match=message):
        load_checkpoint(str(tmp_path / "other.pt"), tokenizer=tokenizer)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.pt").write_text("to do: buy milk")
    with pytest.raises(ModelError, match="not a file of weights"):
        load_checkpoint(str(tmp_path / "notes.pt"))


def test_without_a_tokenizer_the_one_of_roberta_is_asked_for(
    tmp_path: Path, fused_model: ClapModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    torch.save(in_laions_names(fused_model), tmp_path / "small.pt")
    with pytest.raises(ModelError, match=r'tokenizer of roberta-base.*tokenizer="PATH".*FacebookAI/roberta-base'):
        load_checkpoint(str(tmp_path / "small.pt"))
