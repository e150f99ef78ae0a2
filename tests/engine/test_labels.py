"""Label sets: what users write, what is refused and why, and what is stored."""

import tracemalloc
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clapedge.errors import ClapEdgeWarning, LabelError, StorageError
from clapedge.labels import EmbeddedLabels, Label, LabelSet
from clapedge.labels import npz as arrays

KITCHEN = """
template = "The sound of {}."
[[label]]
name = "轴承异响"
prompts = ["a grinding squeal", "metal screeching"]
threshold = 0.3
[[label]]
name = "rain"
[[label]]
name = "background"
prompts = ["quiet room tone"]
hidden = true
"""


def encode(prompts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Embed a text by its length and first letter: enough to tell prompts apart."""
    rows = np.array([[len(prompt), ord(prompt[0]), 1.0] for prompt in prompts], np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_typed_labels_are_split_at_both_commas_and_stripped() -> None:
    parsed = LabelSet.parse([" dog barking , rain", "钟声，雨"])
    assert [label.name for label in parsed.labels] == ["dog barking", "rain", "钟声", "雨"]
    assert parsed.labels[0].prompts == ("This is a sound of dog barking.",)


def test_one_text_is_split_like_several() -> None:
    assert LabelSet.parse("dog barking, rain") == LabelSet.parse(["dog barking, rain"])


def test_words_in_a_list_keep_their_commas() -> None:
    assert LabelSet.of(["thunder, far away"]).labels[0].name == "thunder, far away"


def test_a_string_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(LabelError, match="expected a list"):
        LabelSet.of("rain")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "no labels"),
        ([" ", ","], "no labels"),
        (["rain", "wind, rain"], "'rain' is given twice"),
        (["rain\udcff"], "not UTF-8"),
    ],
)
def test_labels_that_cannot_be_scored_are_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(LabelError, match=complaint):
        LabelSet.parse(words)


def test_a_template_without_a_place_for_the_word_is_refused() -> None:
    with pytest.raises(LabelError, match=r"has no \{\}"):
        LabelSet.of(["rain"], template="a sound")


def test_a_template_makes_no_prompt_out_of_all_proportion() -> None:
    assert len(LabelSet.of(["rain" * 100], template="{} or {}").prompts[0]) == 804
    with pytest.raises(LabelError, match="would have 4000 characters; shorten"):
        LabelSet.of(["rain" * 10], template="{}" * 100)


def test_a_toml_file_gives_names_prompts_thresholds_and_hidden_labels(tmp_path: Path) -> None:
    path = tmp_path / "厨房.toml"
    path.write_text(KITCHEN, encoding="utf-8")
    assert LabelSet.from_file(path).labels == (
        Label("轴承异响", ("a grinding squeal", "metal screeching"), threshold=0.3),
        Label("rain", ("The sound of rain.",)),
        Label("background", ("quiet room tone",), hidden=True),
    )


def test_a_text_file_gives_one_label_a_line_without_comments(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeff# outside\nrain\n\n dog barking  # loud\n", encoding="utf-8")
    assert [label.name for label in LabelSet.from_file(path).labels] == ["rain", "dog barking"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[label]\nname = 1", "line 1"),
        ("[[label]]\nname = 1", "name"),
        ("[[label]]\nname = 'a'\nprompt = 'b'", "prompt"),
        ("[[label]]\nname = 'a'\nhidden = true", "every label is hidden"),
        ("[[label]]\nname = 'a'\nprompts = ['']", "has no words"),
        ("template = 'x'\n[[label]]\nname = 'a'", "has no {}"),
        ("", "no labels"),
        pytest.param("label = " + 9999 * "[", "nested too deeply", id="nested"),
        pytest.param("[[label]]\nname = 'a'\nthreshold = " + 9999 * "1", "wrong.toml", id="digits"),
    ],
)
def test_a_wrong_toml_file_is_refused_by_name_and_place(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LabelError, match=r"wrong\.toml") as caught:
        LabelSet.from_file(path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_label_file_that_is_missing_or_no_text_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabelError, match=r"labels\.txt"):
        LabelSet.from_file(path)


def test_a_csv_file_gives_the_same_labels_as_toml(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        "name,prompts,threshold,hidden\n"
        "轴承异响,a grinding squeal | metal screeching,0.3,\n"
        "\n"
        'rain,"The sound of rain, near",,false\n'
        "background,quiet room tone,,true\n",
        encoding="utf-8-sig",  # as Excel saves it
    )
    assert LabelSet.from_file(path).labels == (
        Label("轴承异响", ("a grinding squeal", "metal screeching"), threshold=0.3),
        Label("rain", ("The sound of rain, near",)),
        Label("background", ("quiet room tone",), hidden=True),
    )


def test_a_csv_file_of_names_alone_puts_them_into_the_template(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("name\nrain\nwind\n", encoding="utf-8")
    assert LabelSet.from_file(path) == LabelSet.of(["rain", "wind"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "name is needed"),
        ("label\nrain\n", "name is needed"),
        ("name,colour\nrain,blue\n", "known are name, prompts, threshold, hidden"),
        ("name,name\nrain,wind\n", "each once"),
        ("name,prompts\nrain,heavy, on a roof\n", "line 2 has more cells"),
        ("name,threshold\nrain,0.3\nwind,loud\n", "line 3: .*threshold"),
        ("name,hidden\nrain,perhaps\n", "line 2: .*hidden"),
        ('name\n"rain\n', "unexpected end"),
        ("name,prompts\n,a lion\n", "has no words"),
        ("name\nrain\nrain\n", "is given twice"),
    ],
)
def test_a_csv_file_that_is_not_understood_is_refused_with_its_place(
    tmp_path: Path, content: str, complaint: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LabelError, match=rf"labels\.csv: .*{complaint}"):
        LabelSet.from_file(path)


def test_a_set_extends_another_and_replaces_labels_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "background.csv").write_text(
        "name,prompts,hidden\nbackground,quiet room tone,true\nrain,heavy rain,\n", encoding="utf-8"
    )
    path = tmp_path / "kitchen.toml"
    path.write_text(
        'extends = "shared/background.csv"\ntemplate = "The sound of {}."\n'
        '[[label]]\nname = "kettle"\n[[label]]\nname = "rain"\nthreshold = 0.2\n',
        encoding="utf-8",
    )
    assert LabelSet.from_file(path).labels == (
        Label("background", ("quiet room tone",), hidden=True),
        Label("rain", ("The sound of rain.",), threshold=0.2),
        Label("kettle", ("The sound of kettle.",)),
    )


def test_a_label_has_one_name_in_the_language_that_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, path = tmp_path / "base.toml", tmp_path / "kitchen.toml"
    base.write_text('[[label]]\nname = "door"\nnames = { zh = "门", de = "Tür" }\n', encoding="utf-8")
    path.write_text(
        'extends = "base.toml"\n[[label]]\nname = "door"\nprompts = ["a door slams"]\n'
        '[[label]]\nname = "rain"\nnames = { zh = "雨" }\n',
        encoding="utf-8",
    )
    monkeypatch.delenv("CLAPEDGE_LANGUAGE", raising=False)
    plain = LabelSet.from_file(path)
    assert [label.name for label in plain.labels] == ["door", "rain"]
    german = LabelSet.from_file(path, language="de")
    assert [label.name for label in german.labels] == ["Tür", "rain"]
    monkeypatch.setenv("CLAPEDGE_LANGUAGE", "zh")
    chinese = LabelSet.from_file(path)
    assert [label.name for label in chinese.labels] == ["门", "雨"]
    assert chinese.prompts == plain.prompts == ("a door slams", "This is a sound of rain.")
    with pytest.warns(ClapEdgeWarning, match=r"no names in the language 'fr' \(it has: de, zh\)"):
        assert LabelSet.from_file(path, language="fr") == plain


def test_sets_that_extend_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "./a")):
        (tmp_path / f"{one}.toml").write_text(f'extends = "{other}.toml"\n', encoding="utf-8")
    with pytest.raises(LabelError, match=r"a\.toml extends .*b\.toml extends .*a\.toml"):
        LabelSet.from_file(tmp_path / "a.toml")


def test_a_set_that_extends_a_missing_file_names_both(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('extends = "none.toml"\n', encoding="utf-8")
    with pytest.raises(LabelError, match=r"none\.toml, which .*a\.toml extends, does not exist"):
        LabelSet.from_file(path)


def test_a_set_that_holds_hidden_labels_alone_can_only_be_extended(tmp_path: Path) -> None:
    path = tmp_path / "hidden.toml"
    path.write_text('[[label]]\nname = "wind"\nhidden = true\n', encoding="utf-8")
    with pytest.raises(LabelError, match=r"hidden\.toml: every label is hidden"):
        LabelSet.from_file(path)


def test_several_prompts_are_averaged_and_normalised_again() -> None:
    label_set = LabelSet((Label("a", ("one", "three")), Label("b", ("two",))))
    embedded = EmbeddedLabels.embed(label_set, encode, "hash")
    mean = encode(["one", "three"]).mean(axis=0)
    np.testing.assert_allclose(embedded.embeddings[0], mean / np.linalg.norm(mean), rtol=1e-6)
    np.testing.assert_allclose(embedded.embeddings[1], encode(["two"])[0], rtol=1e-6)


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda text: text.strip() and "\0" not in text
)


@settings(deadline=None)  # it writes and reads files
@given(st.lists(st.builds(Label, names, st.lists(names, min_size=1, max_size=3).map(tuple)), min_size=1, max_size=4))
def test_what_is_stored_is_what_is_read_back(tmp_path_factory: pytest.TempPathFactory, labels: list[Label]) -> None:
    unique = {label.name: label for label in labels}
    embedded = EmbeddedLabels.embed(LabelSet(tuple(unique.values())), encode, "hash")
    path = tmp_path_factory.mktemp("labels") / "set.npz"
    embedded.save(path)
    again = EmbeddedLabels.load(path)
    assert again.label_set == embedded.label_set
    assert again.text_tower == "hash"
    np.testing.assert_array_equal(again.embeddings, embedded.embeddings)
    assert list(path.parent.iterdir()) == [path]


def test_a_label_set_is_read_from_an_embedded_file_too(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    label_set = LabelSet((Label("门", ("a door",), threshold=0.2), Label("rain", ("heavy rain", "rain"), hidden=True)))
    EmbeddedLabels.embed(label_set, encode, "hash").save(path)
    assert LabelSet.from_file(path) == label_set
    (tmp_path / "more.toml").write_text('extends = "set.npz"\n[[label]]\nname = "wind"\n', encoding="utf-8")
    assert [label.name for label in LabelSet.from_file(tmp_path / "more.toml").labels] == ["门", "rain", "wind"]
    path.write_bytes(b"no label set")
    with pytest.raises(LabelError, match=r"set\.npz is not a label set with embeddings"):
        LabelSet.from_file(path)


def test_a_file_that_is_no_label_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(LabelError, match=r"set\.npz is not a label set"):
        EmbeddedLabels.load(path)


def test_a_damaged_label_set_is_refused_whatever_is_hit(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    EmbeddedLabels.embed(LabelSet.of(["dog", "rain"]), encode, "hash").save(path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), 3):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        try:
            EmbeddedLabels.load(path)
        except LabelError:
            refused += 1
    assert refused > 250


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("embeddings", np.zeros((2, 3), np.float32)),
        ("embeddings", np.full((2, 3), np.nan, np.float32)),
        ("embeddings", np.eye(3, dtype=np.float32)[:1]),
        ("embeddings", np.eye(3)[:2]),
        ("names", np.array("dog")),
        ("thresholds", np.array(["a", "b"])),
        ("thresholds", np.array([0.3, 2.0])),
    ],
)
def test_a_stored_set_that_cannot_be_scored_is_refused(tmp_path: Path, field: str, value: npt.NDArray[Any]) -> None:
    path = tmp_path / "set.npz"
    EmbeddedLabels.embed(LabelSet.of(["dog", "rain"]), encode, "hash").save(path)
    with np.load(path) as stored:
        changed: dict[str, Any] = {**stored, field: value}
    np.savez(path, **changed)
    with pytest.raises(LabelError, match="make it again"):
        EmbeddedLabels.load(path)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY"])
def test_an_empty_or_other_file_is_no_stored_label_set(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(LabelError, match="not a label set"):
        EmbeddedLabels.load(path)


def test_a_set_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.mkdir()
    with pytest.raises(StorageError, match=r"set\.npz cannot be written \(Is a directory\)"):
        EmbeddedLabels.embed(LabelSet.of(["dog"]), encode, "hash").save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_no_label_file(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"cannot be read \(Is a directory\)"):
        LabelSet.from_file(tmp_path)


@pytest.mark.parametrize("threshold", ["nan", "7.0", "-inf"])
def test_a_threshold_that_no_similarity_can_meet_is_refused(tmp_path: Path, threshold: str) -> None:
    path = tmp_path / "set.toml"
    path.write_text(f'[[label]]\nname = "rain"\nthreshold = {threshold}\n', encoding="utf-8")
    with pytest.raises(LabelError, match="from -1 to 1"):
        LabelSet.from_file(path)


def test_a_stored_label_set_with_pickles_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, names=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(LabelError, match=r"set\.npz .*names\.npy' has pickles"):
        EmbeddedLabels.load(path)


def npy_header(shape: str, size: int) -> bytes:
    """Return an array's file with a header that promises a shape, and so many zeros behind it."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(size)


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        (npy_header("(1000000000, 512)", 0), "not as long as its header says"),
        (npy_header("(-1, -4)", 16), "no header"),
        (npy_header("(12000000,)", 48_000_000), "unpacks to more than 32 MiB"),
        (b"no array", "no header"),
    ],
)
def test_a_small_file_cannot_take_all_of_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: bytes, complaint: str
) -> None:
    monkeypatch.setattr(arrays, "MAX_BYTES", 2**25)
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("embeddings.npy", member)
    tracemalloc.start()
    try:
        with pytest.raises(LabelError, match=complaint):
            EmbeddedLabels.load(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["none.npz", "."])
def test_a_stored_set_that_is_not_there_is_wrong_usage(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabelError, match=r"does not exist|Is a directory"):
        EmbeddedLabels.load(tmp_path / name)
