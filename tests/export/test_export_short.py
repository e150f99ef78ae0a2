"""Short towers: a quarter or half of an image for a sound that fills all of it, with the weights of the whole tower."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import soundfile
import torch
from click.testing import CliRunner
from transformers import ClapModel

from clapedge import EmbeddedLabels, Engine, EventRule, LabelSet, Lesson
from clapedge.arrays import Float32Array
from clapedge.batch.run import embedding_config
from clapedge.cli.listen import listen
from clapedge.cli.timeline import timeline
from clapedge.errors import BundleDamagedError, BundleError, UsageError
from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.features.strips import Strips, strip_frames
from clapedge.model.bundle import Bundle, BundleFile, parse_manifest, write_manifest
from clapedge.model.transfer.selection import select_files
from clapedge_export.audio_tower import AudioTower, possible_strips

STRIPS: tuple[Strips, ...] = (1, 2)
RATE = 48_000
LABELS = LabelSet.of(["rain", "dog barking", "siren"])


def sounds(seconds: float, count: int = 4, seed: int = 0) -> Float32Array:
    """Make sounds (count, samples): tones that glide and beat, in noise."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    low, sweep, beat = generator.uniform([[80], [50], [1]], [[2000], [900], [6]], (3, count))[..., None]
    tones = np.sin(2 * np.pi * (low * time + sweep * time**2)) * (1 + np.sin(2 * np.pi * beat * time))
    return np.asarray(0.2 * tones + 0.01 * generator.normal(size=tones.shape), np.float32)


def repeated(mels: torch.Tensor, strips: int) -> torch.Tensor:
    """Let the first of four equal parts of an image's tokens, or the first two, be in all of them."""
    part = mels[:, :, : mels.shape[2] * strips // 4]
    return part.repeat(1, 1, 4 // strips, 1)


@pytest.fixture(scope="module")
def make_engine(bundle: Bundle) -> Iterator[Callable[..., Engine]]:
    """Return what loads the bundle, closed at the end."""
    opened: list[Engine] = []

    def load(**options: Any) -> Engine:  # noqa: ANN401 - as load takes them
        opened.append(Engine.load(**{"bundle": bundle.directory, "provider": "cpu", "threads": 1, **options}))
        return opened[-1]

    yield load
    for engine in opened:
        engine.close()


@pytest.fixture(scope="module")
def engine(make_engine: Callable[..., Engine]) -> Engine:
    """Load the bundle in float32."""
    return make_engine(precision="fp32")


@pytest.mark.parametrize("strips", STRIPS)
def test_equal_copies_cost_nothing_but_the_border_of_the_image(
    make_model: Callable[..., ClapModel], mels: torch.Tensor, strips: Strips
) -> None:
    """Where neither a shift nor a window reaches beyond a strip, a short tower gives what the whole one gives."""
    model = make_model(audio={"depths": [1, 1], "num_attention_heads": [1, 2], "hidden_size": 32})
    whole, short = AudioTower(model), AudioTower(model, strips=strips)
    with torch.inference_mode():
        image = repeated(whole.resize(mels[:, :1]), strips)
        tokens = whole.patches(image.repeat(1, 4, 1, 1), torch.zeros(len(mels)).bool())
        expected = whole.stages(tokens.transpose(0, 1)).transpose(0, 1).mean(dim=1)
        part = short.patches(image[:, :, : image.shape[2] * strips // 4])
        found = short.stages(part.transpose(0, 1)).transpose(0, 1).mean(dim=1)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("strips", STRIPS)
def test_with_shifts_a_short_tower_stays_near_to_the_whole_one(
    fused_model: ClapModel, mels: torch.Tensor, strips: Strips
) -> None:
    whole, short = AudioTower(fused_model), AudioTower(fused_model, strips=strips)
    with torch.inference_mode():
        image = repeated(whole.resize(mels[:, :1]), strips)
        tokens = whole.patches(image.repeat(1, 4, 1, 1), torch.zeros(len(mels)).bool())
        expected = whole.unit(whole.projection(whole.norm(whole.stages(tokens.transpose(0, 1))).mean(dim=0)))
        part = short.patches(image[:, :, : image.shape[2] * strips // 4])
        found = short.unit(short.projection(short.norm(short.stages(part.transpose(0, 1))).mean(dim=0)))
    cosines = (found * expected).sum(dim=1)
    assert cosines.min() > 0.995
    assert not torch.equal(found, expected)


@pytest.mark.parametrize("strips", STRIPS)
def test_the_resized_frames_are_those_of_the_whole_clip_bit_by_bit(
    fused_model: ClapModel, mels: torch.Tensor, strips: Strips
) -> None:
    frames = strip_frames(strips, 1001)
    whole = AudioTower(fused_model).resize(mels[:, :1])
    found = AudioTower(fused_model, strips=strips).resize(mels[:, :1, frames.start : frames.stop])
    start = {1: 256, 2: 512}[strips]
    assert torch.equal(found, whole[:, :, start : start + 256 * strips])


def test_an_image_of_other_strips_has_no_short_tower(make_model: Callable[..., ClapModel]) -> None:
    model = make_model()
    assert possible_strips(model) == STRIPS
    model.audio_model.audio_encoder.freq_ratio = 2
    assert possible_strips(model) == ()


def test_the_manifest_says_what_each_short_tower_is_and_what_it_loses(bundle: Bundle) -> None:
    short = {(file.variant, file.strips): file for file in bundle.files("short")}
    assert short.keys() == {("fp32", 1), ("fp32", 2), ("int8", 1), ("int8", 2)}
    for (variant, strips), file in short.items():
        assert variant is not None
        assert file.path == f"audio.{variant}.strips{strips}.onnx"
        assert 0.99 <= file.checks["min_cosine"] <= file.checks["mean_cosine"] <= 1
        assert file.checks["embeddings"] == 8
        frames = len(strip_frames(strips, 1001)) if strips else 0
        assert [tensor.shape[1:] for tensor in file.inputs] == [(1, frames, 64)]
    assert max(short[key].checks["max_abs_error"] for key in short if key[0] == "fp32") < 2e-6
    assert len({bundle.manifest.space("int8", strips) for strips in (None, *STRIPS)}) == 3


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_weights_are_those_of_the_whole_tower_and_stored_once(bundle: Bundle, variant: str) -> None:
    whole = (bundle.directory / f"audio.{variant}.onnx").read_bytes()
    for strips in STRIPS:
        path = bundle.directory / f"audio.{variant}.strips{strips}.onnx"
        bare, loaded = onnx.load(path, load_external_data=False), onnx.load(path)
        outside = [tensor.name for tensor in bare.graph.initializer if tensor.external_data]
        assert len(outside) > 20
        assert all(tensor.raw_data in whole for tensor in loaded.graph.initializer if tensor.name in outside)
        kept = [tensor.raw_data for tensor in bare.graph.initializer if len(tensor.raw_data) >= 1024]
        assert not any(raw in whole for raw in kept)


@pytest.mark.parametrize("strips", STRIPS)
@pytest.mark.parametrize("seconds", [0.7, 1.0, 1.25, 2.0, 2.5, 3.3, 5.0])
@pytest.mark.parametrize("hop", [0.5, 0.333])
def test_the_frames_of_strips_are_those_of_the_whole_clip_bit_by_bit(
    bundle: Bundle, strips: Strips, seconds: float, hop: float
) -> None:
    maker, (recording,) = ClipMaker(bundle.manifest.front_end), sounds(11.3, count=1)
    if seconds > 2.5 * strips:
        with pytest.raises(UsageError, match=r"not 3\.3 s|not 5 s"):
            maker(recording, ClipOptions("slide", hop=hop, length=seconds, strips=strips))
        return
    frames = strip_frames(strips, 1001)
    for pad in ("repeatpad", "repeat", "zero"):
        whole = maker(recording, ClipOptions("slide", pad=pad, hop=hop, length=seconds))
        part = maker(recording, ClipOptions("slide", pad=pad, hop=hop, length=seconds, strips=strips))
        assert part.spans == whole.spans
        np.testing.assert_array_equal(part.features, whole.features[:, :1, frames.start : frames.stop])


@pytest.mark.parametrize(
    ("seconds", "tower", "name"),
    [
        (2.5, "auto", "1 strip"),
        (1.25, "auto", "1 strip"),
        (5.0, "auto", "2 strips"),
        (1.0, "auto", "2 strips"),
        (2.0, "auto", "whole"),
        (4.0, "auto", "whole"),
        (10.0, "auto", "whole"),
        (2.5, "whole", "whole"),
        (2.0, "short", "1 strip"),
        (4.0, "short", "2 strips"),
    ],
)
def test_a_timeline_says_which_tower_it_is_of(engine: Engine, seconds: float, tower: Any, name: str) -> None:  # noqa: ANN401
    (samples,) = sounds(12, count=1)
    found = engine.timeline((samples, RATE), LABELS, window=seconds, hop=1.0, tower=tower)
    whole = engine.timeline((samples, RATE), LABELS, window=seconds, hop=1.0, tower="whole")
    record = found.provenance.to_dict()
    assert found.provenance.tower == record.get("tower", "whole") == name
    assert (record["space"] == whole.provenance.space) == (name == "whole")
    assert found.similarities.shape == whole.similarities.shape
    if name == "whole":
        np.testing.assert_array_equal(found.similarities, whole.similarities)
    else:
        assert not np.array_equal(found.similarities, whole.similarities)


def test_labels_that_were_embedded_before_are_words_too_and_taught_ones_are_not(
    make_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    engine, (samples,) = make_engine(precision="fp32"), sounds(12, count=1)
    engine.embed_labels(LABELS).save(tmp_path / "words.npz")
    words = EmbeddedLabels.load(tmp_path / "words.npz")
    assert engine.timeline((samples, RATE), words, window=2.5).provenance.tower == "1 strip"
    assert engine.timeline((samples, RATE), engine.stored_labels("kitchen"), window=2.5).provenance.tower == "1 strip"
    others = [(sound, RATE) for sound in sounds(2.0, count=40, seed=1)]
    lesson = Lesson("gate", [(sound, RATE) for sound in sounds(2.0, count=2)], others=others)
    taught = engine.teach(lesson, LABELS)
    assert engine.timeline((samples, RATE), taught, window=2.5).provenance.tower == "whole"
    with pytest.raises(UsageError, match="neither taught nor calibrated"):
        engine.timeline((samples, RATE), taught, window=2.5, tower="short")


def test_a_short_tower_hears_what_the_whole_one_hears(engine: Engine, make_engine: Callable[..., Engine]) -> None:
    for each in (engine, make_engine(precision="int8")):
        for strips in STRIPS:
            for sound in sounds(2.5 * strips):
                whole = each.embed_stream((sound, RATE)).collect()
                short = each.embed_stream((sound, RATE), strips=strips).collect()
                assert float(short.embedding @ whole.embedding) > 0.99
                assert short.strips == strips


def test_live_windows_are_those_of_a_recording(engine: Engine) -> None:
    (samples,) = sounds(9, count=1)
    rule = EventRule(on=0.2, off=0.1)
    blocks = np.array_split(samples, 17)
    for window in (2.5, 5.0):
        live = list(engine.stream(iter(blocks), LABELS, rule=rule, window=window, hop=0.5))
        timeline = engine.timeline((samples, RATE), LABELS, window=window, hop=0.5)
        ended = sorted((event.start, event.end, event.label, event.peak) for event in live if event.kind == "end")
        assert ended == sorted((event.start, event.end, event.label, event.peak) for event in timeline.events(rule))
        assert timeline.provenance.tower != "whole"


def test_listening_says_which_tower_heard(tmp_path: Path, bundle: Bundle) -> None:
    (samples,) = sounds(9, count=1)
    soundfile.write(tmp_path / "yard.wav", samples, RATE)
    arguments = [str(tmp_path / "yard.wav"), "--bundle", str(bundle.directory), "--speed", "0", "-l", "rain,siren"]
    towers = {}
    for chosen in (["--window", "2.5"], ["--tower", "short"], ["--window", "2.5", "--tower", "whole"], []):
        ended = CliRunner().invoke(listen, [*arguments, "--on", "0.1", "--min-duration", "0", *chosen])
        assert ended.exit_code == 0, ended.output
        records = [json.loads(line) for line in ended.stdout.splitlines()]
        assert records
        towers[" ".join(chosen)] = {record.get("tower", "whole") for record in records}
    assert list(towers.values()) == [{"1 strip"}, {"1 strip"}, {"whole"}, {"whole"}]


def test_events_in_json_say_which_tower_heard(tmp_path: Path, bundle: Bundle) -> None:
    (samples,) = sounds(9, count=1)
    soundfile.write(tmp_path / "yard.wav", samples, RATE)
    arguments = [str(tmp_path / "yard.wav"), "--bundle", str(bundle.directory), "-l", "rain,siren", "--on", "0.1"]
    for window, expected in (("2.5", "1 strip"), ("5", "2 strips"), ("2", None)):
        ended = CliRunner().invoke(timeline, [*arguments, "--window", window, "--format", "jsonl"])
        assert ended.exit_code == 0, ended.output
        records = [json.loads(line) for line in ended.stdout.splitlines()]
        assert records
        assert {record.get("tower") for record in records} == {expected}


def test_background_is_learned_by_the_whole_tower(tmp_path: Path, bundle: Bundle) -> None:
    (samples,) = sounds(9, count=1)
    soundfile.write(tmp_path / "yard.wav", samples, RATE)
    arguments = [str(tmp_path / "yard.wav"), "--bundle", str(bundle.directory), "--speed", "0", "-l", "rain,siren"]
    learning = [*arguments, "--window", "2.5", "--learn", str(tmp_path / "quiet.npz"), "--on", "0.1"]
    ended = CliRunner().invoke(listen, learning)
    assert ended.exit_code == 0, ended.output
    assert all("tower" not in json.loads(line) for line in ended.stdout.splitlines())
    refused = CliRunner().invoke(listen, [*learning, "--tower", "short"])
    assert isinstance(refused.exception, UsageError)
    assert "background is learned by the whole tower" in str(refused.exception)


def test_several_workers_embed_by_strips_as_one_does(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(precision="int8", threads=2)
    recordings = [(sound, RATE) for sound in sounds(2.0, count=5)]
    one = [engine.embed_stream(each, strips=1).collect().embedding for each in recordings]
    np.testing.assert_array_equal(engine.embed_audio(recordings, strips=1), np.stack(one))
    many = [
        each.embedding for each in engine.embed_many(recordings, workers=2, strips=1) if not isinstance(each, Exception)
    ]
    np.testing.assert_array_equal(np.stack(many), np.stack(one))


def test_an_archive_of_strips_is_of_their_space_and_says_so(engine: Engine, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "yard.wav", sounds(6, count=1)[0], RATE)
    found = {}
    for name, strips in (("whole", None), ("1 strip", 1)):
        options: Any = {"window": "slide", "length": 2.5, "hop": 1.0, "strips": strips}
        config = embedding_config(engine, options)
        found[name] = config.space
        assert (config.provenance.tower, config.space) == (name, engine.made_with(options["strips"]).space)
        assert ("strips" in config.options) == (strips is not None)
    assert len(set(found.values())) == 2


def test_the_space_of_a_short_tower_is_of_its_graph_and_of_its_weights(bundle: Bundle) -> None:
    manifest = bundle.manifest
    for role in ("audio", "short"):
        files = tuple(
            msgspec.structs.replace(file, sha256="0" * 64) if (file.role, file.variant) == (role, "int8") else file
            for file in manifest.files
        )
        other = msgspec.structs.replace(manifest, files=files)
        assert other.space("int8", 1) != manifest.space("int8", 1)
        assert (other.space("int8") == manifest.space("int8")) == (role == "short")
        assert other.space("fp32", 1) == manifest.space("fp32", 1)


def test_a_short_tower_that_cannot_be_is_an_error(engine: Engine, make_engine: Callable[..., Engine]) -> None:
    (samples,) = sounds(6, count=1)
    with pytest.raises(UsageError, match=r"at most 5 s \(this one: 6 s\)"):
        engine.timeline((samples, RATE), LABELS, window=6, tower="short")
    with pytest.raises(UsageError, match="tower is 'small'; give auto, whole, short"):
        engine.timeline((samples, RATE), LABELS, tower="small")  # type: ignore[arg-type]
    always = make_engine(precision="fp32", fusion="always")
    assert always.timeline((samples, RATE), LABELS, window=2.5).provenance.tower == "whole"
    with pytest.raises(UsageError, match="a short tower runs on the CPU"):
        always.timeline((samples, RATE), LABELS, window=2.5, tower="short")
    with pytest.raises(UsageError, match="strips is 3; give 1 or 2"):
        engine.score((samples, RATE), LABELS, strips=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"1 strip holds 2\.5 s, not 6 s"):
        engine.score((samples, RATE), LABELS, strips=1)
    engine.close()
    with pytest.raises(UsageError, match="is closed"):
        engine.timeline((samples, RATE), LABELS, window=2.5)


def test_a_bundle_without_short_towers_uses_the_whole_one(
    tmp_path: Path, bundle: Bundle, make_engine: Callable[..., Engine]
) -> None:
    (samples,) = sounds(6, count=1)
    directory = copied(bundle, tmp_path / "bare", lambda file: file.role != "short")
    bare = make_engine(bundle=directory, precision="fp32")
    assert bare.timeline((samples, RATE), LABELS, window=2.5).provenance.tower == "whole"
    with pytest.raises(BundleError, match=r"holds no short audio tower in fp32"):
        embedding_config(bare, {"window": "slide", "length": 2.5, "strips": 1})
    with pytest.raises(BundleError, match=r"holds no short audio tower in fp32"):
        bare.timeline((samples, RATE), LABELS, window=2.5, tower="short")


def test_auto_takes_no_short_tower_that_is_far_from_the_whole_one(
    tmp_path: Path, bundle: Bundle, make_engine: Callable[..., Engine]
) -> None:
    (samples,) = sounds(6, count=1)
    directory = copied(bundle, tmp_path / "far", lambda _: True)
    text = (directory / "manifest.json").read_text()
    for file in bundle.files("short"):
        text = text.replace(f'"min_cosine": {file.checks["min_cosine"]}', '"min_cosine": 0.98')
    (directory / "manifest.json").write_text(text)
    far = make_engine(bundle=directory, precision="fp32")
    assert far.timeline((samples, RATE), LABELS, window=2.5).provenance.tower == "whole"
    assert far.timeline((samples, RATE), LABELS, window=2.5, tower="short").provenance.tower == "1 strip"


def test_a_damaged_short_tower_is_noticed_when_it_is_needed(
    tmp_path: Path, bundle: Bundle, make_engine: Callable[..., Engine]
) -> None:
    (samples,) = sounds(6, count=1)
    directory = copied(bundle, tmp_path / "damaged", lambda _: True)
    path = directory / "audio.fp32.strips1.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    damaged = make_engine(bundle=directory, precision="fp32")
    assert damaged.timeline((samples, RATE), LABELS, window=5).provenance.tower == "2 strips"
    with pytest.raises(BundleDamagedError, match=r"strips1\.onnx is damaged"):
        damaged.timeline((samples, RATE), LABELS, window=2.5)


def test_a_manifest_that_contradicts_itself_about_strips_is_refused(bundle: Bundle) -> None:
    text = (bundle.directory / "manifest.json").read_text()
    for before, after in (('"strips": 1', '"strips": 2'), ('"role": "short"', '"role": "audio"')):
        with pytest.raises(BundleDamagedError, match="contradicts itself"):
            parse_manifest(text.replace(before, after, 1).encode(), Path("manifest.json"))


def test_a_part_of_a_bundle_keeps_the_short_towers_of_its_variants(bundle: Bundle) -> None:
    kept = select_files(bundle, variants=["int8"], text=False)
    assert [file.path for file in kept if file.role == "short"] == [
        "audio.int8.strips1.onnx",
        "audio.int8.strips2.onnx",
    ]


def copied(bundle: Bundle, directory: Path, keeps: Callable[[BundleFile], bool]) -> Path:
    """Copy the files of a bundle that are to be kept, under a manifest that names them."""
    directory.mkdir()
    files = tuple(file for file in bundle.manifest.files if keeps(file))
    for file in files:
        (directory / file.path).parent.mkdir(exist_ok=True)
        shutil.copyfile(bundle.directory / file.path, directory / file.path)
    write_manifest(directory, msgspec.structs.replace(bundle.manifest, files=files))
    return directory
