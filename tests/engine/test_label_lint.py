"""Advice on label sets: every planted fault is found, and good words get none."""

import re
import sys
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clapedge import Engine
from clapedge.cli import main
from clapedge.errors import ClapEdgeWarning
from clapedge.labels import Label, LabelSet
from clapedge.labels import lint as label_check
from clapedge.labels.lint import (
    CLOSE_COSINE,
    CLOSE_NAMED,
    LONGEST_PROMPT_TOKENS,
    MOST_LABELS,
    check,
    check_with,
    embed_parts,
)

PLANTED = """
[[label]]
name = "Dog"
prompts = ["a dog barking"]
[[label]]
name = "hound"
prompts = ["A dog  barking."]
[[label]]
name = "正常"
prompts = ["normal operation of the pump"]
[[label]]
name = "code"
prompts = ["BPFO at 50 Hz"]
[[label]]
name = "quiet"
prompts = ["the alarm isn't sounding"]
[[label]]
name = "雨"
[[label]]
name = "other"
[[label]]
name = "long"
prompts = ["{long}"]
[[label]]
name = "engine"
prompts = ["an engine idling"]
[[label]]
name = "motor"
prompts = ["a motor idling", "a motor idling"]
"""


def rules(*prompts: str) -> set[str]:
    """Return the rules that find something in prompts, each of a label of its own, beside two good labels."""
    labels = [Label(f"label {at}", (prompt,)) for at, prompt in enumerate(prompts)]
    good = [Label("rain", ("rain falling on a roof",)), Label("bell", ("a church bell ringing",))]
    return {advice.rule for advice in check(LabelSet((*labels, *good)))}


def test_every_fault_planted_in_a_file_is_found_with_a_reason_and_better_words(tmp_path: Path) -> None:
    path = tmp_path / "planted.toml"
    path.write_text(PLANTED.replace("{long}", "rain on the roof and " * 20), encoding="utf-8")
    label_set = LabelSet.from_file(path)
    embeddings = np.eye(10, dtype=np.float32)
    embeddings[9] = [0, 0, 0, 0, 0, 0, 0, 0, 0.95, 0.312]
    found = check(label_set, embeddings=embeddings)
    assert [(advice.rule, advice.labels) for advice in found] == [
        ("count", ()),
        ("duplicate", ("Dog", "hound")),
        ("duplicate", ("motor",)),
        ("close", ("engine", "motor")),
        ("state", ("正常",)),
        ("code", ("code",)),
        ("negation", ("quiet",)),
        ("language", ("雨",)),
        ("vague", ("other",)),
        ("long", ("long",)),
    ]
    assert "0.95" in found[3].found
    assert all(
        re.search(r"'.+'|\".+\"|merge", advice.better) or advice.rule in {"duplicate", "long"} for advice in found
    )
    assert all(advice.reason for advice in found)


@pytest.mark.parametrize(
    ("prompt", "rule"),
    [
        ("机器异响", "language"),
        ("un perro ladrando y el viento", "language"),
        ("das Bellen eines Hundes", "language"),
        ("HVAC running", "code"),
        ("motor_3 whining", "code"),
        ("P0301 misfire", "code"),
        ("brng squeal", "code"),
        ("compressorFault", "code"),
        ("a faulty compressor", "state"),
        ("Abnormal vibration", "state"),
        ("machine OK", "state"),
        ("background noise", "vague"),
        ("This is a sound of something else.", "vague"),
        ("no one is speaking", "negation"),
        ("a room without voices", "negation"),
        ("the pump doesn't run", "negation"),
        ("the pump doesn\u2019t run", "negation"),
    ],
)
def test_words_that_the_model_was_not_trained_on_are_found(prompt: str, rule: str) -> None:
    assert rule in rules(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "the steady low hum of an electric motor",
        "a 50 Hz hum",
        "a TV playing in the next room",
        "psst",
        "dry leaves rustling",
        "a 1st floor door slamming",
        "white noise",
        "someone knocking on a notice board",
        "rhythmic knocking",
    ],
)
def test_good_words_get_no_advice(prompt: str) -> None:
    assert rules(prompt) == set()


def test_a_name_in_any_language_needs_no_advice_where_the_prompts_are_english() -> None:
    assert rules("a dog barking") == set()
    labels = [Label(name, (f"{name} sound",)) for name in ("dog", "rain")]
    assert check(LabelSet((*labels, Label("正常", ("a fan humming smoothly",))))) == ()


@pytest.mark.parametrize(("count", "advised"), [(1, True), (2, True), (3, False), (7, False), (8, True)])
def test_three_to_seven_labels_are_enough_and_not_too_many(count: int, advised: bool) -> None:  # noqa: FBT001 - a table
    words = ["rain", "wind", "dog", "cat", "bell", "car", "train", "plane"][:count]
    assert [advice.rule for advice in check(LabelSet.of(words))] == ["count"] * advised
    assert MOST_LABELS == 7


@pytest.mark.parametrize(("weights", "doubted"), [("pretrained", False), ("demo", True), ("random", True)])
def test_labels_that_nearly_coincide_are_named_and_doubted_unless_the_model_is_trained(
    weights: str,
    doubted: bool,  # noqa: FBT001 - a table
) -> None:
    rows = np.array([[1, 0, 0], [0, 1, 0], [CLOSE_COSINE, np.sqrt(1 - CLOSE_COSINE**2), 0]], np.float32)
    rows[2] *= 1.0001
    (advice,) = check(LabelSet.of(["rain", "wind", "drizzle"]), embeddings=rows, weights=weights)
    assert (advice.rule, advice.labels) == ("close", ("rain", "drizzle"))
    assert ("mean little" in advice.found) is doubted


def test_the_nearest_pair_comes_first() -> None:
    angles = np.array([0, 0.4, 0.5])
    rows: npt.NDArray[np.float32] = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = check(LabelSet.of(["rain", "wind", "drizzle"]), embeddings=rows)
    assert [advice.labels for advice in found] == [("wind", "drizzle"), ("rain", "wind")]


def test_a_prompt_is_too_long_by_its_tokens_and_by_what_the_tower_reads() -> None:
    label_set = LabelSet.of(["rain", "wind", "dog"])
    assert check(label_set, count_tokens=lambda _: LONGEST_PROMPT_TOKENS) == ()
    assert {advice.rule for advice in check(label_set, count_tokens=lambda _: LONGEST_PROMPT_TOKENS + 1)} == {"long"}
    assert {advice.rule for advice in check(label_set, count_tokens=lambda _: 20, max_tokens=16)} == {"long"}


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=9, unique=True))
def test_any_words_can_be_judged(words: list[str]) -> None:
    names = {word.strip(): word for word in words if word.isprintable()}
    if names:
        for advice in check(LabelSet.of(names)):
            assert advice.found
            assert advice.reason
            assert advice.better
            assert set(advice.labels) <= set(names)


def test_a_long_prompt_of_vague_words_is_judged_at_once() -> None:
    assert "vague" not in rules("the sound of " * 2000 + "rain")


def test_thousands_of_labels_that_coincide_are_counted_and_the_nearest_named() -> None:
    labels = LabelSet(tuple(Label(f"label {at}", (f"a bell of kind {at}",)) for at in range(2000)))
    embeddings = np.tile(np.array([[0.6, 0.76]], np.float32), (2000, 1))
    embeddings[[7, 1900]] = (1.0, 0.0)
    tracemalloc.start()
    found = [advice for advice in check(labels, embeddings=embeddings) if advice.rule == "close"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == CLOSE_NAMED + 1
    assert ("label 7", "label 1900") in [advice.labels for advice in found]
    assert found[-1].found.startswith(f"{1998 * 1997 // 2 + 1 - CLOSE_NAMED} more pairs")
    assert peak < 100_000_000


def test_the_nearest_pairs_are_those_of_the_whole_matrix() -> None:
    rows = np.random.default_rng(0).standard_normal((700, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.triu(rows @ rows.T, 1)
    expected = np.argwhere(cosines >= CLOSE_COSINE)
    pairs, others = label_check._nearest(rows)
    assert len(pairs) + others == len(expected) > CLOSE_NAMED
    assert [cosine for cosine, _, _ in pairs] == pytest.approx(sorted(cosines.ravel())[: -CLOSE_NAMED - 1 : -1])
    assert all(cosines[i, j] == pytest.approx(cosine) for cosine, i, j in pairs)


def test_each_of_many_labels_of_the_same_words_is_named_once() -> None:
    labels = LabelSet(tuple(Label(f"label {at}", ("a dog barking",)) for at in range(1000)))
    found = [advice.labels for advice in check(labels, embeddings=np.ones((1000, 1), np.float32))]
    assert found == [(), *(("label 0", f"label {at}") for at in range(1, 1000))]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Open the demo model, which knows words of its own sounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        with Engine.load() as opened:
            yield opened


def test_a_text_tower_finds_two_wordings_of_one_sound_and_a_prompt_that_it_does_not_read_whole(engine: Engine) -> None:
    words = {"dog": "a dog barking", "hound": "the bark of a dog", "rain": "rain " * 200}
    label_set = LabelSet(tuple(Label(name, (prompt,)) for name, prompt in words.items()))
    with pytest.warns(ClapEdgeWarning, match="tokens of the prompt"):
        found = check_with(engine, label_set)
    assert [(advice.rule, advice.labels) for advice in found] == [("close", ("dog", "hound")), ("long", ("rain",))]
    tokens = int(re.findall(r"about (\d+) tokens", found[1].found)[0])
    assert tokens in range(200, 204)


def test_many_labels_are_read_some_at_a_time(engine: Engine) -> None:
    label_set = LabelSet(tuple(Label(f"bell {at}", (f"bell number {at}",), hidden=at > 3) for at in range(70)))
    parts = list(embed_parts(engine, label_set))
    assert [len(part) for part in parts] == [64, 6]
    found = check_with(engine, label_set, embeddings=parts)
    rows = engine.embed_labels(label_set).embeddings
    assert [advice.rule for advice in found] == [
        advice.rule for advice in check(label_set, embeddings=rows, weights="demo", count_tokens=engine.count_tokens)
    ]


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_advice_ends_the_command_with_1_only_if_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    strict: tuple[str, ...],
    code: int,
) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("rain\nnormal\nwind\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["clapedge", "labels", "check", str(path), *strict])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    out = capsys.readouterr().out
    assert "'normal': prompt 'This is a sound of normal.' names a state" in out
    assert out.splitlines()[-1].endswith("3 labels, 1 piece of advice")
