"""A run of the fuzzer over files of weights: nothing in them is run, and no damage gives more than a ModelError."""

import io
import pickle
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'clapedge[export]'")
pytest.importorskip("resource", reason="the fuzzer limits memory as Unix does")
from tests.fuzz.fuzz_audio import fuzz  # noqa: E402  # it imports what may be missing
from tests.fuzz.weights import hostile_pickle, read_as_the_exporter_would  # noqa: E402

MUTANTS = 1000


def saved(*, protocol: int = 2, archive: bool = True) -> bytes:
    """Write a small training state with `torch.save`."""
    tensors = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.ones(3)}
    state = {"epoch": 3, "best": np.float64(0.9), "state_dict": tensors, "optimizer": {"state": {0: torch.ones(4)}}}
    file = io.BytesIO()
    torch.save(state, file, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    return file.getvalue()


def pickle_of(archive: bytes) -> bytes:
    """Return the pickle inside of an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.read(next(name for name in opened.namelist() if name.endswith("data.pkl")))


def test_a_thousand_damaged_files_run_nothing_and_give_tensors_or_our_error() -> None:
    pickles = [pickle_of(saved(protocol=protocol)) for protocol in (2, 3, 4, 5)]
    hostile = [hostile_pickle(protocol) for protocol in (2, 4)]
    report = fuzz(
        [*pickles, *hostile, saved(), saved(archive=False)], range(MUTANTS), 0, None, read_as_the_exporter_would
    )
    assert report.findings == []
    assert report.outcomes["ok"] > 0
    assert report.outcomes["ModelError"] > 0
    assert sum(report.outcomes.values()) == MUTANTS


def test_the_fuzzer_would_notice_what_a_pickle_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from clapedge_export import torch_file

    assert read_as_the_exporter_would(hostile_pickle(2), 0) == "ModelError"
    monkeypatch.setattr(torch_file, "read_pickle", lambda file, *_: pickle.load(file))  # noqa: S301  # the wrong way
    benign = pickle.dumps({"state_dict": np.float64(1.0)}, 2)
    assert read_as_the_exporter_would(benign, 0).startswith("EXECUTED")
