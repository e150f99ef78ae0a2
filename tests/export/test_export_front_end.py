"""The log-mel front end as a graph, against the engine's own."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from clapedge.errors import ParityError
from clapedge.features.clips import ClipMaker
from clapedge.features.front_end import FrontEnd
from clapedge.model.bundle import Bundle
from clapedge_export import graphs
from clapedge_export.front_end_graph import MAX_ERROR, export_front_end, frame_places
from clapedge_export.verify import verify_front_end

FRONT_ENDS = {
    "fused": FrontEnd(),
    "unfused": FrontEnd(fusion=False, mel_scale="slaney"),
    "another grid": FrontEnd(n_fft=512, hop_length=320, n_mels=40, f_min=0.0, f_max=24_000.0, clip_samples=96_000),
}


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_it_gives_the_log_mels_of_the_engine_for_ordinary_sounds(front_end: FrontEnd) -> None:
    generator = np.random.default_rng(0)
    seconds = np.arange(front_end.clip_samples) / front_end.sample_rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds) * (np.sin(2 * np.pi * 3 * seconds) > 0)
    samples = np.stack([tone, 1e-3 * generator.normal(size=len(tone)) + 0.1 * tone]).astype(np.float32)
    session = onnxruntime.InferenceSession(
        export_front_end(front_end).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"samples": samples})
    log_mel = ClipMaker(front_end).log_mel
    assert found.shape[1] == front_end.channels
    expected = np.stack([log_mel(row) for row in samples])[:, None]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=MAX_ERROR, rtol=0)


def test_frames_are_reflected_at_both_ends_as_numpy_pads() -> None:
    front_end = FrontEnd(clip_samples=2000)
    padded = np.pad(np.arange(2000), front_end.n_fft // 2, mode="reflect")
    expected = np.lib.stride_tricks.sliding_window_view(padded, front_end.n_fft)[:: front_end.hop_length]
    assert np.array_equal(frame_places(front_end), expected)


def test_a_bundle_with_half_precision_holds_it_for_cuda_alone(bundle: Bundle) -> None:
    file = bundle.file("frontend", provider="cuda")
    assert (file.path, file.providers) == ("frontend.onnx", ("cuda",))
    assert [(tensor.name, tensor.shape) for tensor in (*file.inputs, *file.outputs)] == [
        ("samples", ("batch", 480_000)),
        ("log_mels", ("batch", bundle.manifest.front_end.channels, 1001, 64)),
    ]
    assert 0 < file.checks["max_error_db"] <= MAX_ERROR


def test_a_front_end_that_hears_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "frontend.onnx"
    graphs.save(export_front_end(FrontEnd(f_min=0.0)), path)
    assert onnx.load(path).graph.name == "clapedge_front_end"
    with pytest.raises(ParityError, match=r"frontend\.onnx differs from the front end by .* dB"):
        verify_front_end(path, FrontEnd())
