"""Recordings in folders, found by the content of files and not only by their names."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clapedge.errors import AudioError

HEAD_BYTES = 16

SIGNATURES = re.compile(
    rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|RIFF....AVI |riff\x2e\x91\xcf\x11|FORM....AIF[FC]|FORM....8SVX"
    rb"|caff\x00|\.snd|dns\.|NIST_1A|Creative Voice|fLaC|OggS|ID3|wvpk|MAC |TTA[12]|MPCK|MP\+|DSD |#!AMR|\.RMF|FLV\x01"
    rb"|....ftyp(?!heic|heix|hevc|mif1|msf1|avif|avis|crx )|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75\x8e\x66\xcf\x11"
    rb"|\xff[\xf2-\xf7\xfa-\xfd][\x10-\xef]|\xff[\xf0\xf1\xf8\xf9]|\x0b\x77|\x7f\xfe\x80\x01",
    re.DOTALL,
)
"""How files with sound begin: the containers of libsndfile and FFmpeg, and raw streams of MPEG audio, ADTS, AC-3
and DTS by their sync words. A file with `ftyp` is a film or a song, unless its brand is that of a picture."""

SUFFIXES = frozenset(
    {".aac", ".ac3", ".aif", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".flac", ".m4a", ".mka", ".mkv", ".mov"}
    | {".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".tta", ".w64", ".wav", ".webm", ".wma", ".wv"}
)
"""A file of such a name is taken whatever its content: a damaged recording is to be reported, not skipped."""


@dataclass(frozen=True)
class FoundRecordings:
    """What `find_recordings` found.

    Attributes:
        files: paths of recordings, sorted, each once.
        skipped: number of other files in the folders.
    """

    files: tuple[str, ...]
    skipped: int


def find_recordings(paths: Iterable[str | os.PathLike[str]], *, recursive: bool = False) -> FoundRecordings:
    """Find recordings: every named file, and those in named folders.

    Args:
        paths: files and folders.
        recursive: whether to search folders in folders; symlinks to folders are never followed.

    Raises:
        AudioError: a folder cannot be read.
    """
    files: set[str] = set()
    skipped: set[str] = set()
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - where Path raises for a name that is too long
            for file in _walk(os.fspath(path), recursive=recursive):
                (files if is_recording(file) else skipped).add(file)
        else:
            files.add(os.path.normpath(path))
    return FoundRecordings(tuple(sorted(files)), len(skipped - files))


def is_recording(path: str) -> bool:
    """Return whether a file has sound, by its first bytes or, failing that, its name."""
    if os.path.splitext(path)[1].lower() in SUFFIXES:  # noqa: PTH122 - called for every file of a large tree
        return True
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return SIGNATURES.match(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False


def _walk(folder: str, *, recursive: bool) -> Iterator[str]:
    """Yield the regular files of a folder."""
    for directory, folders, names in os.walk(folder, onerror=_raise_unreadable):
        if not recursive:
            folders.clear()
        for name in names:
            path = os.path.normpath(os.path.join(directory, name))  # noqa: PTH118 - as above
            if os.path.isfile(path):  # noqa: PTH113 - as above
                yield path


def _raise_unreadable(error: OSError) -> None:
    """Raise the error of a folder that cannot be read, which `os.walk` would skip silently."""
    raise AudioError(f"{error.filename} cannot be read ({error.strerror}); check its permissions, or leave it out")
