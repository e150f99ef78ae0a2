"""Fixtures of listening: the demo model, a recording with planted sounds, and listeners."""

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.live.brokers import Broker
from tests.live.house import House
from tests.live.staging import CLIPS, FEED_RATE, PLANTED, RATE, SECONDS, ListenerSetup, MemorySink, StillClock

from clapedge import EmbeddedLabels, Engine, Label, LabelSet, audio
from clapedge.arrays import Float32Array
from clapedge.errors import ClapEdgeWarning
from clapedge.live.clip_recorder import ClipStore
from clapedge.live.clock import Stamps
from clapedge.live.context import ListenerContext
from clapedge.live.listener import Listener
from clapedge.live.options import ListenOptions


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    """Capture all that listening logs."""
    caplog.set_level(logging.INFO, logger="clapedge")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Open the demo model with one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        with Engine.load(threads=1, spinning=False) as opened:
            yield opened


@pytest.fixture(scope="session")
def labels(engine: Engine) -> EmbeddedLabels:
    """Return the labels of what is planted, and the noise around it as a hidden one."""
    shown = tuple(Label(name, (f"This is a sound of {name}.",)) for name in PLANTED)
    return engine.embed_labels(LabelSet((*shown, Label("noise", ("white noise",), hidden=True))))


@pytest.fixture(scope="session")
def planted() -> Float32Array:
    """Make a recording of noise with demo sounds at known times, on the grid of 16 bits."""
    samples = 0.003 * np.random.default_rng(0).standard_normal(SECONDS * RATE)
    for name, (start, seconds) in PLANTED.items():
        sound = audio.read(CLIPS / f"{name.replace(' ', '-')}.flac").samples
        place = slice(round(start * RATE), round((start + seconds) * RATE))
        samples[place] += np.resize(sound, place.stop - place.start)
    return (np.round(np.clip(samples, -1, 1) * 32767) / 32768).astype(np.float32)


@pytest.fixture
def listening(engine: Engine, labels: EmbeddedLabels) -> Callable[..., ListenerSetup]:
    """Return what makes a listener with some options."""

    def make(*, stamps: Stamps | None = None, clip_store: ClipStore | None = None, **options: object) -> ListenerSetup:
        clock, sink = StillClock(), MemorySink()
        context = ListenerContext("test", "0a1b", clock, stamps or Stamps(), (sink,), clip_store)
        chosen: dict[str, object] = {"window": 2.0, "hop": 1.0} | options
        return ListenerSetup(Listener(engine, labels, ListenOptions(**chosen), context), clock, sink)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def raw(planted: Float32Array) -> bytes:
    """Return the planted recording as 16-bit stereo at 16 kHz."""
    samples = np.round(planted[:: RATE // FEED_RATE] * 32767).astype("<i2")
    return np.repeat(samples[:, None], 2, axis=1).tobytes()


@pytest.fixture(scope="session")
def label_file(labels: EmbeddedLabels, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file with the labels of what is planted."""
    path = tmp_path_factory.mktemp("labels") / "labels.npz"
    labels.save(path)
    return str(path)


@pytest.fixture
def forgetful_broker(tmp_path: Path) -> Iterator[Broker]:
    """Return a broker that forgets all when it is started again."""
    made = Broker(tmp_path, settings="allow_anonymous true\npersistence false")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def house(forgetful_broker: Broker) -> Iterator[House]:
    """Return what the broker is told."""
    made = House(forgetful_broker.port)
    yield made
    made.close()
