"""Sound of this machine: a sound card, or a recording that is played as if it were live."""

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from clapedge import audio
from clapedge.errors import MissingExtraError, UsageError
from clapedge.live.sources import BLOCK_SECONDS, Frames, SourceLostError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from clapedge.arrays import Float32Array


class FileSource:
    """A recording that is played as if it were live, at any speed."""

    live: ClassVar[bool] = False
    reopens: ClassVar[bool] = False

    def __init__(
        self,
        path: str,
        *,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Prepare to play.

        Args:
            path: the recording.
            speed: how many times as fast as real time; 0 is as fast as it is processed.
            monotonic: returns the time in seconds.
            sleep: lets so many seconds pass.

        Raises:
            UsageError: the speed is impossible, or there is no such file.
        """
        if not 0 <= speed < float("inf"):
            raise UsageError(f"speed is {speed}; give a factor, or 0 for as fast as possible")
        if not Path(path).exists():
            raise UsageError(
                f"{path} does not exist; name -, mic, mic:DEVICE, an address (rtsp://, http://) or a recording"
            )
        self.name = audio.source_name(path)
        self._path, self._speed, self._monotonic, self._sleep = path, speed, monotonic, sleep

    def frames(self) -> Iterator[Frames]:
        """Yield the recording, each block at its time."""
        with audio.opened(self._path) as stream:
            began, played = self._monotonic(), 0
            step = round(BLOCK_SECONDS * audio.SAMPLE_RATE)
            for block in stream:
                for first in range(0, len(block), step):
                    part = block[first : first + step, None]
                    played += len(part)
                    if self._speed:
                        due = began + played / audio.SAMPLE_RATE / self._speed
                        self._sleep(max(0.0, due - self._monotonic()))
                    yield audio.SAMPLE_RATE, part

    def notes(self) -> list[str]:
        """Return nothing: the listener's stream reports what is wrong with the sound."""
        return []


class MicrophoneSource:
    """A sound card, through PortAudio."""

    live: ClassVar[bool] = True
    reopens: ClassVar[bool] = True

    def __init__(self, device: str, *, sample_rate: int | None, channels: int, timeout: float) -> None:
        """Prepare to record.

        Args:
            device: name, part of a name, or number of the device; empty for the default one.
            sample_rate: Hz; None takes the device's own.
            channels: how many to record.
            timeout: seconds without sound after which it counts as lost.

        Raises:
            MissingExtraError: the extra `mic`, or the library PortAudio, is not installed.
        """
        self._sounddevice = _import_sounddevice()
        self.name = f"mic:{device}" if device else "mic"
        self._device = int(device) if device.isdecimal() else device or None
        self._sample_rate, self._channels, self._timeout = sample_rate, channels, timeout
        self._overflows = 0

    def frames(self) -> Iterator[Frames]:
        """Yield what is recorded."""
        recorded: queue.SimpleQueue[Float32Array] = queue.SimpleQueue()

        def record(block: "npt.NDArray[np.float32]", frames: int, at: object, status: object) -> None:  # noqa: ARG001 - PortAudio's
            self._overflows += bool(getattr(status, "input_overflow", False))
            recorded.put(block.copy())

        portaudio = self._sounddevice
        try:
            sample_rate = self._sample_rate or int(portaudio.query_devices(self._device, "input")["default_samplerate"])
            with portaudio.InputStream(
                device=self._device,
                samplerate=sample_rate,
                channels=self._channels,
                dtype="float32",
                blocksize=round(BLOCK_SECONDS * sample_rate),
                callback=record,
            ):
                while True:
                    yield sample_rate, recorded.get(timeout=self._timeout)
        except queue.Empty:
            raise SourceLostError(f"{self.name} gave no sound for {self._timeout:g} s; check its plug") from None
        except (portaudio.PortAudioError, ValueError) as error:
            raise SourceLostError(
                f"{self.name} cannot be recorded from ({error}); plug it in, or see: python -m sounddevice"
            ) from error

    def notes(self) -> list[str]:
        """Return how often the sound card lost sound."""
        if not self._overflows:
            return []
        return [f"{self.name} lost sound {self._overflows} times before it was read; this machine was too busy"]


def _import_sounddevice() -> ModuleType:
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
