"""The decoders of MP3 files that may be made of several streams."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import BinaryIO, cast

from clapedge.arrays import Float32Array
from clapedge.audio.decoder import note_once
from clapedge.audio.gaps import GAP_SECONDS, silence
from clapedge.audio.headers import find_mp3_tag
from clapedge.audio.mp3 import MAX_PARTS, FilePart, Part, ends, is_mp3, mp3_parts
from clapedge.audio.soundfile_decoder import NotRecognisedError, SoundFileDecoder
from clapedge.audio.sources import TAG_BYTES, ByteView


class JoinedDecoder:
    """Decodes the parts of a file one after another through libsndfile.

    Each part but the last takes as long as its headers say, so that positions are the same wherever reading begins.
    """

    def __init__(self, view: ByteView, name: str, parts: list[Part]) -> None:
        """Open every part.

        Raises:
            NotRecognisedError: libsndfile does not know the format of the first one.
        """
        self.notes: list[str] = []
        self.exact = True
        self._parts: list[tuple[SoundFileDecoder, int]] = []
        with ExitStack() as stack:
            for part in parts:
                decoder = self._opened(ByteView(cast("BinaryIO", FilePart(view, part))), name)
                if decoder is None:
                    break
                stack.enter_context(closing(decoder))
                exact = decoder.exact and decoder.frames is not None
                self._parts.append((decoder, decoder.frames or 0 if exact else part.frames))
            self.close = stack.pop_all().close
        self.sample_rate = self._parts[0][0].sample_rate
        self.frames: int | None = sum(frames for _, frames in self._parts)
        if any(part.denied for part in parts):
            self.notes.append("its Xing header describes an end where nothing ends; its frames are read without it")
        if len(parts) >= MAX_PARTS:
            self.notes.append(f"it is made of more than {MAX_PARTS} streams; what follows them is not read")

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop), see `clapedge.audio.decoder.Decoder`."""
        base = 0
        for number, (decoder, frames) in enumerate(self._parts):
            last = number == len(self._parts) - 1
            end = stop if stop is None else stop - base
            if (end is None or end > 0) and (last or first < base + frames):
                low = max(0, first - base)
                yield from decoder.blocks(low, end) if last else _filled(decoder, low, frames, end)
            for note in decoder.notes:
                note_once(self.notes, note)
            base += frames

    def _opened(self, view: ByteView, name: str) -> SoundFileDecoder | None:
        """Open a part, or note why neither it nor what follows is read."""
        try:
            decoder = SoundFileDecoder(view, name)
        except NotRecognisedError:
            if not self._parts:
                raise
            self.notes.append("a part of it cannot be decoded; it is not read, nor what follows")
            return None
        if self._parts and decoder.sample_rate != self._parts[0][0].sample_rate:
            change = f"{self._parts[0][0].sample_rate} to {decoder.sample_rate} Hz"
            self.notes.append(f"its sample rate changes from {change}; what follows is not read")
            decoder.close()
            return None
        return decoder


def _filled(decoder: SoundFileDecoder, first: int, frames: int, stop: int | None) -> Iterator[Float32Array]:
    """Yield [first, stop) of a part, no more than its frames, with silence for those that are missing."""
    end = frames if stop is None else min(frames, stop)
    channels = 1
    for block in decoder.blocks(first, end):
        channels = block.shape[1]
        first += len(block)
        yield block
    if end - first > GAP_SECONDS * decoder.sample_rate:
        note_once(decoder.notes, "a part of it ends early; what is missing counts as silence")
    yield from silence(end - first, channels)


class Mp3Decoder:
    """Decodes an MP3 of which nothing says where its streams end: they are looked for when a span needs them."""

    exact = False

    def __init__(self, view: ByteView, name: str) -> None:
        """Open a recording.

        Raises:
            NotRecognisedError: libsndfile does not know the format.
        """
        self._view, self._name = view, name
        self._first = SoundFileDecoder(view, name)
        self._joined: JoinedDecoder | None = None
        self._searched = False
        self.sample_rate, self.frames, self.notes = self._first.sample_rate, self._first.frames, self._first.notes

    def close(self) -> None:
        """Release the handles of libsndfile."""
        self._first.close()
        if self._joined is not None:
            self._joined.close()

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop), see `clapedge.audio.decoder.Decoder`."""
        begin = first
        if begin == 0 and self._joined is None:
            for block in self._first.blocks(0, stop):
                first += len(block)
                yield block
            if (stop is not None and first >= stop) or self._view.tell() >= self._view.size - TAG_BYTES:
                return
        if not self._searched:
            self._searched = True
            parts = mp3_parts(self._view)
            self._joined = JoinedDecoder(self._view, self._name, parts) if len(parts) > 1 else None
        if self._joined is not None:
            yield from self._joined.blocks(first, stop)
            for note in self._joined.notes:
                note_once(self.notes, note)
        elif begin:
            yield from self._first.blocks(first, stop)


def open_streams(view: ByteView, name: str) -> SoundFileDecoder | JoinedDecoder | Mp3Decoder:
    """Return the decoder for a file that libsndfile may know; reading looks for further streams only in an MP3.

    Raises:
        NotRecognisedError: libsndfile does not know the format.
    """
    tag = find_mp3_tag(view) if is_mp3(view) else None
    if not is_mp3(view) or (tag is not None and ends(tag, view)):
        return SoundFileDecoder(view, name)
    if tag is None or not tag.end:
        return Mp3Decoder(view, name)
    parts = mp3_parts(view)
    joined = len(parts) > 1 or any(part.denied for part in parts)
    return JoinedDecoder(view, name, parts) if joined else SoundFileDecoder(view, name)
