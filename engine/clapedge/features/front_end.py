"""The parameters of a model's front end, as its manifest holds them."""

from typing import Annotated, Literal, TypeAlias

import msgspec

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Frontend = Literal["numpy", "device"]
"""What makes log-mels: NumPy, or a graph on the GPU on which the tower runs."""

Hertz: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=24_000)]
"""A frequency that sound at 48 kHz can hold."""


class FrontEnd(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"sample_rate": "sampling_rate"},  # as preprocessor_config.json calls it
):
    """Parameters of the log-mel front end; the defaults are those of `laion/clap-htsat-fused`.

    Source: its `preprocessor_config.json` (frequency_min is 50 there; the class default of transformers is 0).
    """

    sample_rate: Literal[48_000] = 48_000
    """Hz; recordings are brought to this rate alone, which every published CLAP checkpoint has."""
    n_fft: Annotated[int, msgspec.Meta(ge=2)] = 1024
    hop_length: Count = 480
    n_mels: Count = 64
    f_min: Hertz = 50.0
    f_max: Hertz = 14_000.0
    mel_scale: Literal["htk", "slaney"] = "htk"
    """`htk` without normalisation (fused checkpoints), or `slaney` with Slaney normalisation (unfused ones)."""
    clip_samples: Count = 480_000
    fusion: bool = True
    """Whether the tower takes a long recording as four mels (one shrunk whole, three crops)."""

    def __post_init__(self) -> None:
        """Refuse what no log-mel can be made of."""
        if self.f_min >= self.f_max:
            raise ValueError(f"mels from {self.f_min} to {self.f_max} Hz are none")
        if self.clip_samples <= self.n_fft // 2:
            raise ValueError(f"a clip of {self.clip_samples} samples is too short for frames of {self.n_fft}")

    @property
    def clip_frames(self) -> int:
        """Frames of one clip: 1001 for 480000 samples."""
        return 1 + self.clip_samples // self.hop_length

    @property
    def clip_seconds(self) -> float:
        """Length of one clip in seconds."""
        return self.clip_samples / self.sample_rate

    @property
    def channels(self) -> int:
        """Mels per clip: 4 for a fusion checkpoint, 1 otherwise."""
        return 4 if self.fusion else 1
