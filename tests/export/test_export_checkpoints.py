"""Names to checkpoints: what is read, and what is refused, with the file and the fix in the message."""

import json
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import pytest
import tokenizers
import torch
from huggingface_hub import constants
from transformers import ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer

from clapedge.errors import ModelError, UsageError
from clapedge.features.front_end import FrontEnd
from clapedge_export import hub, synthetic
from clapedge_export.checkpoint import read_directory, read_tokenizer
from clapedge_export.load import load_checkpoint
from clapedge_export.quiet import quiet

Change = Callable[[Path], object]


@pytest.fixture
def copy(tmp_path: Path, fused_directory: Path) -> Path:
    """Copy the small checkpoint, to be changed."""
    return Path(shutil.copytree(fused_directory, tmp_path / "copy"))


def edit(path: Path, **entries: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def edit_audio(path: Path, **entries: object) -> None:
    """Change entries of the audio configuration."""
    edit(path, audio_config=json.loads(path.read_text())["audio_config"] | entries)


def same_weights(one: ClapModel, other: ClapModel) -> bool:
    """Say whether two models hold the same tensors."""
    state, reference = one.state_dict(), other.state_dict()
    return state.keys() == reference.keys() and all(torch.equal(state[key], reference[key]) for key in state)


def test_a_directory_in_the_hubs_layout_is_read_exactly(fused_directory: Path, fused_model: ClapModel) -> None:
    checkpoint = load_checkpoint(str(fused_directory))
    assert same_weights(checkpoint.model, fused_model)
    assert not checkpoint.model.training
    assert checkpoint.front_end == FrontEnd()
    assert (checkpoint.name, checkpoint.licence, checkpoint.weights) == ("small-fused", "cc-by-4.0", "pretrained")
    assert checkpoint.max_tokens == 38


def test_old_weights_are_read_where_there_are_no_safetensors(copy: Path, fused_model: ClapModel) -> None:
    (copy / "model.safetensors").unlink()
    torch.save(fused_model.state_dict(), copy / "pytorch_model.bin")
    assert same_weights(read_directory(copy).model, fused_model)


def test_weights_in_half_precision_become_float32(copy: Path, fused_model: ClapModel) -> None:
    (copy / "model.safetensors").unlink()
    edit(copy / "config.json", dtype="float16")
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in fused_model.state_dict().items()
    }
    torch.save(half, copy / "pytorch_model.bin")
    model = read_directory(copy).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(model.state_dict(), fused_model.state_dict(), atol=1e-3, rtol=1e-2)


def test_a_directory_may_say_what_its_model_is_called_and_that_it_is_a_demo(copy: Path) -> None:
    edit(copy / "config.json", clapedge_name="clapedge-demo", clapedge_weights="demo")
    (copy / "README.md").unlink()
    checkpoint = read_directory(copy)
    assert (checkpoint.name, checkpoint.weights, checkpoint.licence) == ("clapedge-demo", "demo", "unknown")


def test_the_front_end_of_an_unfused_model_is_slaney(
    tmp_path: Path, make_model: Callable[..., ClapModel], make_directory: Callable[..., Path]
) -> None:
    directory = make_directory(tmp_path / "unfused", make_model(fusion=False))
    assert read_directory(directory).front_end == FrontEnd(fusion=False, mel_scale="slaney")


def test_the_front_end_is_found_where_newer_transformers_writes_it(copy: Path) -> None:
    (copy / "preprocessor_config.json").unlink()
    tokenizer = RobertaTokenizer(tokenizer_object=tokenizers.Tokenizer.from_file(str(copy / "tokenizer.json")))
    with quiet():
        extractor = ClapFeatureExtractor(truncation="fusion", frequency_min=50)
        ClapProcessor(extractor, tokenizer).save_pretrained(copy)
    assert (copy / "processor_config.json").exists()
    assert read_directory(copy).front_end == FrontEnd()


def test_a_tokenizer_of_the_older_files_encodes_as_roberta_does(copy: Path) -> None:
    vocabulary = json.loads((copy / "tokenizer.json").read_text())["model"]["vocab"]
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.json").write_text(json.dumps(vocabulary | {"<mask>": len(vocabulary)}))
    (copy / "merges.txt").write_text("#version: 0.2\n")
    encoder = tokenizers.Tokenizer.from_str(read_tokenizer(copy).decode())
    assert encoder.encode("ab").ids == [0, vocabulary["a"], vocabulary["b"], 2]


def test_padding_and_truncation_of_a_tokenizer_are_left_to_the_engine(copy: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.enable_padding(length=77)
    tokenizer.enable_truncation(5)
    tokenizer.save(str(copy / "other.json"))
    assert len(tokenizers.Tokenizer.from_str(read_tokenizer(copy / "other.json").decode()).encode("a" * 20)) == 22
    assert load_checkpoint(str(copy), tokenizer=copy / "other.json").tokenizer == read_tokenizer(copy)


def drop_tensors(directory: Path) -> None:
    """Write weights that lack the first layers of the projections."""
    state = read_directory(directory).model.state_dict()
    (directory / "model.safetensors").unlink()
    torch.save({key: value for key, value in state.items() if "linear1" not in key}, directory / "pytorch_model.bin")


FAULTS: dict[str, tuple[Change, str]] = {
    "no config": (lambda path: (path / "config.json").unlink(), r"config\.json does not exist"),
    "damaged config": (
        lambda path: (path / "config.json").write_text('{"model_type": "cl'),
        r"config\.json is damaged",
    ),
    "another model": (lambda path: edit(path / "config.json", model_type="bert"), "type 'bert'"),
    "config of a wrong type": (lambda path: edit_audio(path / "config.json", depths="many"), "is not understood"),
    "config of other weights": (
        lambda path: edit_audio(path / "config.json", patch_embeds_hidden_size=32, hidden_size=256),
        "do not fit",
    ),
    "unknown kind of weights": (lambda path: edit(path / "config.json", clapedge_weights="best"), "clapedge_weights"),
    "no weights": (
        lambda path: (path / "model.safetensors").unlink(),
        "neither model.safetensors nor pytorch_model.bin",
    ),
    "damaged weights": (lambda path: (path / "model.safetensors").write_bytes(b"PK" * 50), r"model\.safetensors is no"),
    "weights without a tensor": (drop_tensors, "lacks 4 tensors"),
    "no front end": (lambda path: (path / "preprocessor_config.json").unlink(), r"preprocessor_config\.json"),
    "damaged front end": (
        lambda path: (path / "preprocessor_config.json").write_text("{"),
        r"preprocessor_config\.json",
    ),
    "front end of an unfused model": (
        lambda path: edit(path / "preprocessor_config.json", truncation="rand_trunc"),
        "truncation is 'rand_trunc'.*enable_fusion is True",
    ),
    "front end at another rate": (
        lambda path: edit(path / "preprocessor_config.json", sampling_rate=44_100),
        r"the engine does not compute \(.*sampling_rate.*48 kHz",
    ),
    "front end with a ceiling": (lambda path: edit(path / "preprocessor_config.json", top_db=80), "top_db is 80"),
    "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), 'no tokenizer.json.*tokenizer="PATH"'),
    "damaged tokenizer": (lambda path: (path / "tokenizer.json").write_text("{"), r"tokenizer\.json is damaged"),
    "half a tokenizer": (lambda path: (path / "tokenizer.json").write_text('{"model": {"vocab": {}}}'), "is damaged"),
    "something else": (lambda path: (path / "tokenizer.json").write_text("{}"), "is not a tokenizer.json"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_directory_is_named_with_its_fix(copy: Path, change: Change, message: str) -> None:
    change(copy)
    with pytest.raises(ModelError, match=message):
        load_checkpoint(str(copy))


def test_a_pickle_that_runs_code_is_refused_and_not_run(copy: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return Path.touch, (copy / "harmed",)  # type: ignore[return-value]

    (copy / "model.safetensors").unlink()
    torch.save({"state_dict": Attack()}, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only tensors are read, never code"):
        load_checkpoint(str(copy))
    assert not (copy / "harmed").exists()


def test_the_tokenizer_of_another_model_is_refused(copy: Path, tmp_path: Path) -> None:
    content = json.loads((copy / "tokenizer.json").read_text())
    content["model"]["vocab"]["zebra"] = 50_000
    (tmp_path / "large.json").write_text(json.dumps(content))
    content["model"]["vocab"].pop("zebra")
    content["post_processor"] = None
    (tmp_path / "bare.json").write_text(json.dumps(content))
    for other in ("large.json", "bare.json"):
        with pytest.raises(ModelError, match="the tokenizer does not belong to copy"):
            load_checkpoint(str(copy), tokenizer=tmp_path / other)


@pytest.mark.parametrize("name", ["random:clap", "nowhere/at/all", "missing.pt", "missing/missing.pt"])
def test_a_name_that_names_nothing_is_refused(name: str) -> None:
    with pytest.raises(ModelError):
        load_checkpoint(name)


def test_random_weights_are_the_same_for_the_same_seed_and_differ_for_another(
    make_model: Callable[..., ClapModel],
) -> None:
    assert same_weights(make_model(seed=3), make_model(seed=3))
    assert not same_weights(make_model(seed=3), make_model(seed=4))


def test_a_tokenizer_that_random_weights_would_not_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="makes its own tokenizer"):
        load_checkpoint("random:clap-htsat-fused", tokenizer=tmp_path / "tokenizer.json")


def test_random_statistics_are_not_the_initial_ones(fused_model: ClapModel) -> None:
    norms = [module for module in fused_model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 5
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.running_mean.abs().max() > 0
        assert (norm.running_var - 1).abs().min() > 0


def test_the_random_tokenizer_has_the_special_tokens_of_roberta_and_reads_any_text() -> None:
    encoder = tokenizers.Tokenizer.from_str(synthetic.byte_tokenizer().decode())
    assert [encoder.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    ids = encoder.encode("警报 siren").ids
    assert (ids[0], ids[-1], len(ids)) == (0, 2, 2 + len("警报 siren".encode()))
    assert min(ids[1:-1]) > 3
    assert max(ids) < synthetic.ROBERTA_BASE["vocab_size"]
    assert encoder.decode(ids) == "警报 siren"


@pytest.fixture
def cache(tmp_path: Path, fused_directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the small checkpoint into a cache of the hub, and return its commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = tmp_path / "hub" / "models--someone--small"
    shutil.copytree(fused_directory, model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return commit


def test_a_model_of_the_hub_is_found_in_the_cache_when_offline(cache: str, fused_model: ClapModel) -> None:
    checkpoint = load_checkpoint("someone/small")
    assert (checkpoint.name, checkpoint.revision) == ("someone/small", cache)
    assert same_weights(checkpoint.model, fused_model)


@pytest.mark.usefixtures("cache")
def test_offline_and_not_in_the_cache_says_how_to_download_by_hand() -> None:
    with pytest.raises(ModelError, match=r"offline mode is on.*hf download someone/else --local-dir else"):
        load_checkpoint("someone/else")


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.perf_counter()
        with pytest.raises(ModelError, match="hf download"):
            load_checkpoint("someone/else")
    assert time.perf_counter() - began < 5


def test_the_command_ends_with_status_3_and_one_line_when_a_model_is_out_of_reach(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clapedge.cli", "export", "someone/else", "-o", str(tmp_path / "out")]
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    ended = run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("error: someone/else cannot be downloaded")
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
