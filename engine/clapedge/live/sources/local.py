"""Where live sound comes from: standard input, a sound card, or a file that is played as if it happened now.

A source yields frames until it ends. One that can be opened again after it was lost says so.
"""

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

from clapedge import audio
from clapedge.errors import AudioError, MissingExtraError, UsageError
from clapedge.live.sources.pcm import BLOCK_SECONDS, PcmFormat, PcmReader

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from clapedge.arrays import Float32Array

Frames: TypeAlias = "tuple[int, Float32Array]"
"""Hz, and (n, channels) float32 in ±1."""


class SourceLostError(AudioError):
    """A source that was there gives no sound any more, or cannot be opened now."""


class Source(Protocol):
    """A source of live sound.

    Attributes:
        name: what messages and events call it, without passwords.
        live: whether sound that nobody takes is lost; else the source waits.
        reopens: whether it can be opened again.
    """

    name: str
    live: ClassVar[bool]
    reopens: ClassVar[bool]

    def frames(self) -> Iterator[Frames]:
        """Open it and yield its sound as it comes.

        Raises:
            SourceLostError: it is gone, and may come back.
            AudioError: it cannot be used.
        """
        ...

    def notes(self) -> list[str]:
        """Return what went wrong on the way, as sentences, once it has ended."""
        ...


class PcmSource:
    """Raw samples that another program writes."""

    live: ClassVar[bool] = True
    reopens: ClassVar[bool] = False

    def __init__(self, read: Callable[[int], bytes | None], pcm: PcmFormat, name: str = "standard input") -> None:
        """Prepare to read; the arguments are those of `PcmReader`."""
        lowest, highest = audio.MIN_SAMPLE_RATE, audio.MAX_SAMPLE_RATE
        if not lowest <= pcm.rate <= highest:
            raise UsageError(f"--rate is {pcm.rate} Hz; {lowest} to {highest} Hz are understood")
        self.name = name
        self._rate = pcm.rate
        self._reader = PcmReader(read, pcm)

    def frames(self) -> Iterator[Frames]:
        """Yield what comes."""
        came = False
        for frames in self._reader:
            came = True
            yield self._rate, frames
        if not came:
            raise AudioError(f"{self.name} ended without a sound; see what the program before the pipe says")

    def notes(self) -> list[str]:
        """Tell of a frame that was cut off."""
        torn = self._reader.torn
        return [f"{self.name} ended within a frame ({torn} bytes); check --format and --channels"] if torn else []


class FileSource:
    """A recording that is played as if it happened now, at any speed."""

    live: ClassVar[bool] = False
    reopens: ClassVar[bool] = False

    def __init__(
        self,
        path: str,
        *,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Prepare to play.

        Args:
            path: the recording.
            speed: how many times as fast as it sounds; 0 goes as fast as it is heard.
            monotonic: tells the seconds.
            wait: lets so many of them pass.
        """
        if not 0 <= speed < float("inf"):
            raise UsageError(f"--speed is {speed}; give a number of times, or 0 for as fast as possible")
        if not Path(path).exists():
            raise UsageError(
                f"{path} is no file; name -, mic, mic:DEVICE, an address (rtsp://, http://) or a recording"
            )
        self.name = audio.source_name(path)
        self._path, self._speed, self._monotonic, self._wait = path, speed, monotonic, wait

    def frames(self) -> Iterator[Frames]:
        """Yield the recording, each part when it would have sounded."""
        with audio.opened(self._path) as stream:
            began, played = self._monotonic(), 0
            step = round(BLOCK_SECONDS * audio.SAMPLE_RATE)
            for block in stream:
                for first in range(0, len(block), step):
                    part = block[first : first + step, None]
                    played += len(part)
                    if self._speed:
                        due = began + played / audio.SAMPLE_RATE / self._speed
                        self._wait(max(0.0, due - self._monotonic()))
                    yield audio.SAMPLE_RATE, part

    def notes(self) -> list[str]:
        """Tell of nothing: what is wrong with the sound, whoever hears it tells."""
        return []


class Microphone:
    """A sound card, through PortAudio."""

    live: ClassVar[bool] = True
    reopens: ClassVar[bool] = True

    def __init__(self, device: str, *, rate: int | None, channels: int, patience: float) -> None:
        """Prepare to record.

        Args:
            device: name, part of a name, or number of the device; empty for the usual one.
            rate: Hz; None takes the device's own.
            channels: how many to record.
            patience: seconds without sound after which it counts as lost.

        Raises:
            MissingExtraError: the extra `mic`, or the library PortAudio, is not installed.
        """
        self._sounddevice = _sounddevice()
        self.name = f"mic:{device}" if device else "mic"
        self._device = int(device) if device.isdecimal() else device or None
        self._rate, self._channels, self._patience = rate, channels, patience
        self._overflows = 0

    def frames(self) -> Iterator[Frames]:
        """Yield what is recorded, in blocks of a twentieth of a second."""
        came: queue.SimpleQueue[Float32Array] = queue.SimpleQueue()

        def hear(block: "npt.NDArray[np.float32]", frames: int, at: object, status: object) -> None:  # noqa: ARG001 - PortAudio's
            self._overflows += bool(getattr(status, "input_overflow", False))
            came.put(block.copy())

        portaudio = self._sounddevice
        try:
            rate = self._rate or int(portaudio.query_devices(self._device, "input")["default_samplerate"])
            with portaudio.InputStream(
                device=self._device,
                samplerate=rate,
                channels=self._channels,
                dtype="float32",
                blocksize=round(BLOCK_SECONDS * rate),
                callback=hear,
            ):
                while True:
                    yield rate, came.get(timeout=self._patience)
        except queue.Empty:
            raise SourceLostError(f"{self.name} gave no sound for {self._patience:g} s; check its plug") from None
        except (portaudio.PortAudioError, ValueError) as error:
            raise SourceLostError(
                f"{self.name} cannot be recorded from ({error}); plug it in, or see: python -m sounddevice"
            ) from error

    def notes(self) -> list[str]:
        """Tell how often the sound card lost sound."""
        if not self._overflows:
            return []
        return [f"{self.name} lost sound {self._overflows} times before it was read; this machine was too busy"]


def _sounddevice() -> ModuleType:
    """Return the binding to PortAudio."""
    try:
        import sounddevice
    except ImportError:
        raise MissingExtraError("listening to a sound card", "mic") from None
    except OSError as error:
        raise MissingExtraError(
            f"listening to a sound card ({error}; on Debian: apt install libportaudio2)", "mic"
        ) from None
    module: ModuleType = sounddevice
    return module
