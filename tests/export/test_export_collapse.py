"""A checkpoint that does not distinguish its inputs is refused, and what was made of one is reported where it runs."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ClapModel

from clapedge import Engine
from clapedge.diagnostics.doctor import diagnose
from clapedge.errors import ClapEdgeWarning, ModelError
from clapedge_export import ExportOptions, export, export_bundle

Change = Callable[[ClapModel], object]


def collapse(layer: torch.nn.Linear) -> None:
    """Let the bias decide what a projection gives, whatever it is given."""
    with torch.no_grad():
        layer.weight.mul_(1e-3)


def break_down(layer: torch.nn.Linear) -> None:
    """Put a weight into a projection that is no number."""
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan


FAULTS: dict[str, tuple[Change, str]] = {
    "text collapsed": (
        lambda model: collapse(model.text_projection.linear2),
        r"the text tower of broken has collapsed: .*median cosine (0\.999|1\.)",
    ),
    "audio collapsed": (
        lambda model: collapse(model.audio_projection.linear2),
        r"the audio tower of broken has collapsed: .*median cosine (0\.999|1\.)",
    ),
    "text without numbers": (
        lambda model: break_down(model.text_projection.linear2),
        "the text tower of broken gives no numbers",
    ),
    "audio without numbers": (
        lambda model: break_down(model.audio_projection.linear2),
        "the audio tower of broken gives no numbers",
    ),
}


@pytest.mark.usefixtures("without_tracing")
@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_a_checkpoint_that_does_not_distinguish_its_inputs_is_refused(
    tmp_path: Path,
    make_model: Callable[..., ClapModel],
    make_directory: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    message: str,
) -> None:
    # the graphs are those of another model, so that only the checkpoint itself is looked at
    for check in ("verify_audio", "verify_text"):
        monkeypatch.setattr(export, check, lambda *_: {})
    model = make_model()
    change(model)
    source = make_directory(tmp_path / "broken", model)
    with pytest.raises(ModelError, match=f"{message}.*scores would mean nothing"):
        export_bundle(str(source), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_a_collapsed_bundle_is_reported_at_the_first_score_and_by_the_doctor(
    tmp_path: Path,
    make_model: Callable[..., ClapModel],
    make_directory: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "check_distinction", lambda *_: None)
    model = make_model()
    collapse(model.text_projection.linear2)
    source = make_directory(tmp_path / "broken", model)
    bundle = export_bundle(str(source), tmp_path / "bundle", ExportOptions(short=False))
    sound = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    labels = ["rain", "dog barking", "siren", "knocking"]
    with Engine.load(bundle.directory, prompt_cache=False) as engine:
        with pytest.warns(ClapEdgeWarning, match=r"the 4 labels have nearly the same embedding .*collapsed"):
            result = engine.score(sound, labels)
        assert [score.probability for score in result.labels] == pytest.approx([0.25] * 4, abs=0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            engine.score(sound, labels)
    findings = {finding.name: finding for finding in diagnose(str(bundle.directory)).bundle}
    assert findings["audio tower"].state == "ok"
    assert findings["text tower"].state == "bad"
    assert "has collapsed" in findings["text tower"].detail
