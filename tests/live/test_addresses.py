"""Addresses: sound alone is asked for, and TLS with certificates of one's own fails with the true reason."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.live.camera import Camera
from tests.live.certificates import Authority, authority
from tests.live.web import files_of, web_server

from clapedge.arrays import Float32Array
from clapedge.live.sources import SourceLostError
from clapedge.live.sources.network import NetworkSource
from clapedge.live.tls import TlsFiles

pytest.importorskip("av", reason="PyAV is not installed; pip install 'clapedge[formats]'")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority that no system knows."""
    return authority(tmp_path_factory.mktemp("own") / "authority")


@pytest.fixture
def camera() -> Iterator[Callable[..., Camera]]:
    """Return what starts a camera."""
    started: list[Camera] = []

    def start(*, certificate: Path | None = None) -> Camera:
        started.append(Camera(certificate=certificate))
        return started[-1]

    yield start
    for each in started:
        each.close()


def sound_of(source: NetworkSource) -> tuple[list[Float32Array], str]:
    """Return what a source gives until it is lost, and why it was lost."""
    blocks: list[Float32Array] = []

    def read() -> None:
        blocks.extend(frames for _, frames in source.frames())

    with pytest.raises(SourceLostError) as lost:
        read()
    return blocks, str(lost.value)


def test_a_camera_is_asked_for_its_sound_alone(camera: Callable[..., Camera]) -> None:
    found = camera()
    blocks, _ = sound_of(NetworkSource(found.address, timeout=5.0))
    assert found.set_up() == ["audio"]
    assert sum(map(len, blocks)) == 4000


def test_the_certificate_of_a_camera_is_checked_by_an_authority_of_ones_own(
    own: Authority, camera: Callable[..., Camera]
) -> None:
    found = camera(certificate=own.sign("camera", "IP:127.0.0.1"))
    blocks, _ = sound_of(NetworkSource(found.address, timeout=5.0, tls=TlsFiles(own.ca)))
    assert sum(map(len, blocks)) == 4000


def test_a_certificate_that_is_not_trusted_is_the_reason(
    own: Authority, camera: Callable[..., Camera], tmp_path: Path
) -> None:
    stranger = authority(tmp_path / "stranger")
    found = camera(certificate=stranger.sign("camera", "IP:127.0.0.1"))
    blocks, reason = sound_of(NetworkSource(found.address, timeout=5.0, tls=TlsFiles(own.ca)))
    assert not blocks
    assert "its TLS certificate is not trusted" in reason
    assert 'ca="FILE"' in reason
    assert found.requests == [], "the password would be in the first"
    found = camera(certificate=own.sign("elsewhere"))
    assert "IP address mismatch" in sound_of(NetworkSource(found.address, timeout=5.0, tls=TlsFiles(own.ca)))[1]


def test_a_certificate_that_is_not_checked_is_noted(
    own: Authority, camera: Callable[..., Camera], caplog: pytest.LogCaptureFixture
) -> None:
    found = camera(certificate=own.sign("camera", "IP:127.0.0.1"))
    blocks, _ = sound_of(NetworkSource(found.address, timeout=5.0))
    assert blocks
    assert any("is not checked; name its authority" in line for line in caplog.messages)


def test_a_stream_over_https_is_checked_as_well(own: Authority, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", np.full(8000, 0.25, np.float32), 16_000)

    with web_server(files_of(tmp_path, []), certificate=own.sign("web", "IP:127.0.0.1")) as address:
        source = f"{address}/tone.wav"
        blocks, _ = sound_of(NetworkSource(source, timeout=5.0, tls=TlsFiles(own.ca)))
        assert sum(map(len, blocks)) == 8000
        other = authority(tmp_path / "other")
        assert "not trusted" in sound_of(NetworkSource(source, timeout=5.0, tls=TlsFiles(other.ca)))[1]


def segments(directory: Path, count: int) -> None:
    """Write a film for HLS, whose picture and sound are playlists of their own, in so many segments of a second."""
    import av

    picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    tone = np.full((1, 1152), 3000, np.int16)
    for name in ("video", "audio"):
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
        for number in range(count):
            with av.open(directory / f"{name}{number}.ts", "w", format="mpegts") as written:
                if name == "video":
                    video = written.add_stream("mpeg2video", rate=25)
                    video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
                    for place in range(25):
                        picture.pts = number * 25 + place
                        written.mux(video.encode(picture))
                    written.mux(video.encode(None))
                else:
                    audio = written.add_stream("mp2", rate=16_000, layout="mono")
                    for place in range(14):
                        block = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
                        block.sample_rate, block.pts = 16_000, number * 16_000 + 1152 * place
                        written.mux(audio.encode(block))
                    written.mux(audio.encode(None))
            lines += ["#EXTINF:1.0,", f"{name}{number}.ts"]
        (directory / f"{name}.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    (directory / "film.m3u8").write_text(
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="audio.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=300000,AUDIO="a"\nvideo.m3u8\n'
    )


def test_of_a_playlist_with_pictures_the_sound_alone_is_fetched_on(tmp_path: Path) -> None:
    segments(tmp_path, 30)
    fetched: list[str] = []

    with web_server(files_of(tmp_path, fetched)) as address:
        sound_of(NetworkSource(f"{address}/film.m3u8", timeout=5.0))
    fetched_segments = {path for path in fetched if path.endswith(".ts")}
    assert len({path for path in fetched_segments if "audio" in path}) == 30
    assert len({path for path in fetched_segments if "video" in path}) < 15
