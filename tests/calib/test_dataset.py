from pathlib import Path

import pytest

from clapedge.errors import ClapEdgeWarning, UsageError
from clapedge_calib.dataset import read_dataset


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_is_a_class_and_its_name_is_read_as_words(tmp_path: Path) -> None:
    touch(tmp_path / "dog_bark" / "a.wav", tmp_path / "rain" / "deep" / "b.FLAC", tmp_path / "rain" / "notes.txt")
    found = read_dataset(tmp_path)
    assert [(each.name, each.label) for each in found] == [("dog_bark/a.wav", "dog bark"), ("rain/deep/b.FLAC", "rain")]


def test_recordings_beside_the_folders_have_no_class_and_hidden_ones_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav", tmp_path / ".trash" / "b.wav")
    with pytest.warns(ClapEdgeWarning, match="passed over 1 hidden file or folder, such as .*trash"):
        assert [(each.name, each.label) for each in read_dataset(tmp_path)] == [("a.wav", None)]


def test_the_layout_of_esc_50_is_recognised_and_its_columns_narrow(tmp_path: Path) -> None:
    table = tmp_path / "meta" / "esc50.csv"
    touch(table, tmp_path / "audio" / "1-1-A-0.wav")
    table.write_text(
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-1-A-0.wav,1,0,dog,True,1,A\n"
        "2-2-A-1.wav,2,1,crying_baby,False,2,A\n"
    )
    found = read_dataset(tmp_path)
    assert [(each.label, each.fold) for each in found] == [("dog", "1"), ("crying baby", "2")]
    assert found[0].path == tmp_path / "audio" / "1-1-A-0.wav"
    assert [each.label for each in read_dataset(tmp_path, folds=["2"])] == ["crying baby"]
    assert [each.label for each in read_dataset(tmp_path, where=[("esc10", "True")])] == ["dog"]
    assert read_dataset(manifest=table) == found


def test_the_layout_of_urbansound8k_is_recognised(tmp_path: Path) -> None:
    table = tmp_path / "metadata" / "UrbanSound8K.csv"
    touch(table, tmp_path / "audio" / "fold5" / "1-3-0-0.wav")
    table.write_text(
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n1-3-0-0.wav,1,0,1,1,5,3,street_music\n"
    )
    (found,) = read_dataset(tmp_path)
    assert (found.label, found.fold, found.path.is_file()) == ("street music", "5", True)


def test_a_csv_of_file_and_label_lies_beside_its_files(tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    table.write_text("\ufefffile,label,fold\nsub/a.wav,door_knock,3\n", encoding="utf-8")
    (found,) = read_dataset(tmp_path)
    assert (found.path, found.label, found.fold) == (tmp_path / "sub" / "a.wav", "door knock", "3")


def test_a_csv_is_read_as_a_german_excel_saves_it(tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    table.write_bytes("sep=;\r\nfile;label;fold\r\nTür.wav;door_knock;3\r\n;;\r\n".encode("utf-16"))
    (found,) = read_dataset(tmp_path)
    assert (found.path, found.label, found.fold) == (tmp_path / "Tür.wav", "door knock", "3")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("path;what\na.wav;b\n", "path, what .*separated by semicolons"),
        ("path,what\na.wav,b\n", "expected file and label"),
        ("file,label\n\nb.wav,rain\n,rain\n", "in line 4"),
        ("file,label\na.wav,rain\nb.wav,wind\na.wav,wind\n", r"a\.wav in line 2 and in line 4"),
        ("file,label\n", "names no recordings"),
    ],
)
def test_a_csv_that_is_not_understood_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(content)
    with pytest.raises(UsageError, match=complaint):
        read_dataset(manifest=table)


def test_a_row_without_a_class_is_a_recording_without_one(tmp_path: Path) -> None:
    table = tmp_path / "esc50.csv"
    table.write_text("filename,fold,category\na.wav,1,\nb.wav,1\n")
    assert [each.label for each in read_dataset(manifest=table)] == [None, None]


def test_an_empty_folder_a_missing_one_and_folds_without_a_csv_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no recordings"):
        read_dataset(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        read_dataset(tmp_path / "absent")
    with pytest.raises(UsageError, match="no CSV"):
        read_dataset(tmp_path, folds=["1"])
