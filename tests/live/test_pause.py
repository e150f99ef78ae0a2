"""A source that is paused: nothing of it is heard or kept, its events end at once, and it goes on as after a gap."""

import threading
from collections.abc import Callable

import numpy as np
from tests.live.staging import PLANTED, RATE, ListenerSetup, chunks_of, eventually

from clapedge.arrays import Float32Array
from clapedge.live.buffer import AudioBuffer, Chunk


def test_a_pause_is_told_once_and_what_comes_meanwhile_is_counted_and_not_kept() -> None:
    buffer = AudioBuffer(10.0)
    first, *others = chunks_of(np.zeros(RATE, np.float32))
    buffer.push(first)
    buffer.pause(paused=True)
    for chunk in others[:4]:
        buffer.push(chunk)
    assert buffer.pop(0.0) is first
    assert buffer.pop(100.0) == "paused"
    assert buffer.pop(0.0) == "paused"  # after its timeout
    buffer.pause(paused=False)
    assert buffer.pop(0.0) == "stalled"
    for chunk in others[4:6]:
        buffer.push(chunk)
    heard = [buffer.pop(0.0) for _ in range(2)]
    assert [chunk.fresh for chunk in heard if isinstance(chunk, Chunk)] == [True, False]
    assert (buffer.pushed, buffer.popped, buffer.unheard) == (3 * RATE // 10, 3 * RATE // 10, 4 * RATE // 10)


def test_a_reader_that_waits_for_room_goes_on_when_its_source_is_paused() -> None:
    buffer = AudioBuffer(1.0, lossless=True)
    chunks = chunks_of(np.zeros(3 * RATE, np.float32))

    def read() -> None:
        for chunk in chunks:
            buffer.push(chunk)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    eventually(lambda: buffer.pushed >= RATE)
    buffer.pause(paused=True)
    reader.join(10)
    assert not reader.is_alive()
    assert buffer.pushed + buffer.unheard == 3 * RATE
    assert buffer.unheard > RATE


def test_events_end_with_the_pause_and_what_was_played_during_it_is_never_an_event(
    listening: Callable[..., ListenerSetup], planted: Float32Array
) -> None:
    setup = listening()
    buffer = AudioBuffer(100.0)
    chunks = chunks_of(planted)
    where = PLANTED["siren"][0] + 3.0  # amid the siren
    until = PLANTED["telephone ringing"][0] - 1.0  # after the smoke alarm

    def feed() -> None:
        for chunk in chunks:
            if chunk.start >= where and not buffer.paused and chunk.start < until:
                eventually(lambda: buffer.popped == buffer.pushed)
                buffer.pause(paused=True)
                eventually(setup.sink.ended)
            if chunk.start >= until and buffer.paused:
                buffer.pause(paused=False)
            buffer.push(chunk)
        buffer.close()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    setup.listener.run(buffer)
    feeder.join()
    ended = setup.sink.ended()
    assert [(record.label, record.reason) for record in ended] == [("siren", "paused"), ("telephone ringing", "quiet")]
    assert ended[0].end <= where + 0.1
    assert ended[1].start >= until
    assert setup.listener.counts.gaps == setup.listener.counts.stalls == 0
