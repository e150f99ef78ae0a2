"""A checkpoint: a model with its tokenizer and front end, read from its files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tokenizers
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

from clapedge.errors import ModelError
from clapedge.features.front_end import FrontEnd
from clapedge.model.bundle import Weights
from clapedge_export.quiet import first_line, quiet
from clapedge_export.torch_file import read_tensors

UNREADABLE = (SafetensorError, RuntimeError, OSError, ValueError, TypeError)
"""Errors that reading damaged safetensors raises."""

AGAIN = "config and weights do not belong together, so download both again"
"""How to repair a checkpoint whose parts do not fit."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Files of weights in a directory of the hub's layout, the preferred one first."""

REBUILT_KEYS = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")
"""Ends of the names of tensors that a model computes for itself, so that a checkpoint may lack them."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model, ready to be exported.

    Attributes:
        model: transformers' model in evaluation mode, float32.
        tokenizer: content of `tokenizer.json`, without padding and truncation.
        front_end: parameters of the log-mels that it was trained on.
        name: in a manifest: hub id, name of the directory or file, or `random:...`.
        revision: commit on the hub, or None.
        licence: SPDX-like name from its model card, or `unknown`.
        weights: `pretrained`, `random` or `demo`.
        notes: sentences for the user.
    """

    model: ClapModel
    tokenizer: bytes
    front_end: FrontEnd
    name: str
    revision: str | None = None
    licence: str = "unknown"
    weights: Weights = "pretrained"
    notes: tuple[str, ...] = ()

    @property
    def max_tokens(self) -> int:
        """Longest prompt, special tokens included: RoBERTa numbers positions from the padding id + 1 on."""
        text = self.model.text_model.config
        return text.max_position_embeddings - (text.pad_token_id or 0) - 1


def read_directory(directory: Path, *, tokenizer: Path | None = None) -> Checkpoint:
    """Read a directory in the hub's layout: config.json, weights, preprocessor_config.json, tokenizer, README.md.

    Entries of config.json: `clapedge_weights` (`demo` or `random`) marks weights that are not pretrained,
    `clapedge_name` names them, and `clapedge_notes` is a list of sentences for the user.

    Raises:
        ModelError: a file is missing or not understood.
    """
    config = _read_json(directory / "config.json")
    if config.get("model_type") != "clap":
        raise ModelError(
            f"{directory / 'config.json'} describes a model of type {config.get('model_type')!r}; clapedge exports "
            "models of type 'clap'"
        )
    model = load_model(config, _read_weights(directory), directory)
    weights = config.get("clapedge_weights", "pretrained")
    if weights not in ("pretrained", "random", "demo"):
        raise ModelError(
            f"{directory / 'config.json'} has clapedge_weights {weights!r}; set it to demo or random, or remove it"
        )
    return Checkpoint(
        model=model,
        tokenizer=read_tokenizer(tokenizer or directory),
        front_end=read_front_end(directory, fusion=model.audio_model.config.enable_fusion),
        name=str(config.get("clapedge_name") or directory.resolve().name),
        licence=_licence(directory / "README.md"),
        weights=weights,
        notes=tuple(map(str, config.get("clapedge_notes", ()))),
    )


def read_front_end(directory: Path, *, fusion: bool) -> FrontEnd:
    """Read the front end that a checkpoint was trained on.

    Args:
        directory: holds `preprocessor_config.json`, or `processor_config.json` as newer versions of transformers write.
        fusion: `enable_fusion` of the audio configuration, which has to agree.

    Raises:
        ModelError: it is missing, or is one that the engine does not compute.
    """
    try:
        with quiet():
            extractor = ClapFeatureExtractor.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{directory} has no usable preprocessor_config.json ({first_line(error)}); download it "
            "from the model's page"
        ) from error
    scales = {"fusion": "htk", "rand_trunc": "slaney"}
    if extractor.truncation not in scales or (extractor.truncation == "fusion") != fusion:
        raise ModelError(
            f"{directory}: truncation is {extractor.truncation!r} in preprocessor_config.json and enable_fusion is "
            f"{fusion} in config.json; expected fusion with true or rand_trunc with false, so correct one of the files"
        )
    if getattr(extractor, "top_db", None) is not None:
        raise ModelError(
            f"{directory}: top_db is {extractor.top_db} in preprocessor_config.json, which the engine does not apply; "
            "use a checkpoint whose top_db is null"
        )
    parameters = {
        "sampling_rate": extractor.sampling_rate,
        "n_fft": extractor.fft_window_size,
        "hop_length": extractor.hop_length,
        "n_mels": extractor.feature_size,
        "f_min": extractor.frequency_min,
        "f_max": extractor.frequency_max,
        "mel_scale": "htk" if fusion else "slaney",
        "clip_samples": extractor.nb_max_samples,
        "fusion": fusion,
    }
    try:
        return msgspec.convert(parameters, FrontEnd)
    except msgspec.ValidationError as error:
        raise ModelError(
            f"{directory}: preprocessor_config.json describes a front end that the engine does not compute ({error}); "
            "use a checkpoint for 48 kHz"
        ) from error


def read_tokenizer(path: Path) -> bytes:
    """Return the content of a `tokenizer.json` without padding and truncation, which the engine does itself.

    Args:
        path: the file, or a directory that holds it or a RoBERTa vocabulary (`vocab.json` and `merges.txt`).

    Raises:
        ModelError: there is none, or it is damaged.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        return _read_vocabulary(path)
    content = _read_json(file)
    model = content.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise ModelError(f"{file} is not a tokenizer.json: it has no model with a vocab; use that of the model's page")
    content["padding"] = content["truncation"] = None
    return msgspec.json.encode(content)


def check_tokenizer(checkpoint: Checkpoint) -> None:
    """Raise if a tokenizer belongs to another model.

    Raises:
        ModelError: its ids are not those of the text encoder.
    """
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(checkpoint.tokenizer)
    except ValueError as error:
        raise ModelError(
            f"the tokenizer of {checkpoint.name} is damaged ({error}); use the tokenizer.json of the model's page"
        ) from error
    text = checkpoint.model.text_model.config
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    ids = tokenizer.encode("a").ids
    ends, padding = (ids[0], ids[-1]) if ids else (), tokenizer.token_to_id("<pad>")
    expected = (text.bos_token_id, text.eos_token_id)
    if highest >= text.vocab_size or ends != expected or padding not in (None, text.pad_token_id):
        raise ModelError(
            f"the tokenizer does not belong to {checkpoint.name}: its highest id is {highest} of {text.vocab_size}, a "
            f"prompt begins and ends with {ends} for {expected}, padding is {padding} for {text.pad_token_id}; "
            "use the tokenizer.json that the model was trained with"
        )


def load_model(config: dict[str, Any], state: dict[str, torch.Tensor], source: Path) -> ClapModel:
    """Build a model in float32 and evaluation mode; a missing tensor is an error, since it would be random.

    Args:
        config: content of a `config.json`.
        state: tensors by transformers' names; those that the model does not have are ignored.
        source: named in errors.

    Raises:
        ModelError: the configuration is not understood, or the tensors do not fit it.
    """
    try:
        with quiet():
            model = ClapModel(ClapConfig.from_dict(config))
    except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"the configuration of {source} is not understood ({first_line(error)}); {AGAIN}") from error
    try:
        report = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ModelError(
            f"the weights of {source} do not fit its configuration ({first_line(error)}); {AGAIN}"
        ) from error
    missing = [key for key in report.missing_keys if not key.endswith(REBUILT_KEYS)]
    if missing:
        raise ModelError(
            f"{source} lacks {len(missing)} tensors of its configuration, the first being "
            f"{', '.join(missing[:3])}; {AGAIN}"
        )
    model.train(mode=False)
    return model


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file of weights by name: safetensors, or what `torch.save` wrote.

    Raises:
        ModelError: it is damaged, or holds no tensors.
    """
    if file.suffix != ".safetensors":
        return read_tensors(file)
    try:
        return load_file(file)
    except UNREADABLE as error:
        raise ModelError(
            f"{file} is not a file of weights, or is damaged ({first_line(error)}); download it again"
        ) from error


def _read_vocabulary(directory: Path) -> bytes:
    """Return a tokenizer made of RoBERTa's older files."""
    vocabulary, merges = directory / "vocab.json", directory / "merges.txt"
    if not (vocabulary.is_file() and merges.is_file()):
        raise ModelError(
            f'{directory} holds no tokenizer.json; put that of the model there, or give tokenizer="PATH" (LAION\'s '
            "models use that of FacebookAI/roberta-base)"
        )
    with quiet():
        tokenizer = RobertaTokenizer.from_pretrained(directory, local_files_only=True).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    text: str = tokenizer.to_str(pretty=False)
    return text.encode()


def _read_weights(directory: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a directory."""
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            return read_state(directory / name)
    raise ModelError(
        f"{directory} holds neither {' nor '.join(WEIGHT_FILES)}; download one of them from the model's page"
    )


def _read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        raise ModelError(f"{file} does not exist; download it from the model's page") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelError(f"{file} is damaged ({first_line(error)}); download it again") from error


def _licence(card: Path) -> str:
    """Return the `license` of a model card's front matter, or `unknown`."""
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "unknown"
    found = re.match(r"---\n(?:(?!---).*\n)*?licen[sc]e:[ \t]*(\S+)", text)
    return found[1].strip("'\"") if found else "unknown"
