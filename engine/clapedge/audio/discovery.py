"""Recordings in folders, found by what files hold and not only by what they are called."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clapedge.errors import AudioError

HEAD_BYTES = 16

SIGNATURES = re.compile(
    rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|RIFF....AVI |riff\x2e\x91\xcf\x11|FORM....AIF[FC]|FORM....8SVX"
    rb"|caff\x00|\.snd|dns\.|NIST_1A|Creative Voice|fLaC|OggS|ID3|wvpk|MAC |TTA[12]|MPCK|MP\+|DSD |#!AMR|\.RMF|FLV\x01"
    rb"|....ftyp(?!heic|heix|hevc|mif1|msf1|avif|avis|crx )|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75\x8e\x66\xcf\x11"
    rb"|\xff[\xf2-\xf7\xfa-\xfd][\x10-\xef]|\xff[\xf0\xf1\xf8\xf9]|\x0b\x77|\x7f\xfe\x80\x01",
    re.DOTALL,
)
"""How files begin that hold sound: the containers of libsndfile and FFmpeg, and raw streams of MPEG audio, ADTS, AC-3
and DTS by their sync words. What `ftyp` begins is a film or a song, unless it says that it is a picture."""

SUFFIXES = frozenset(
    {".aac", ".ac3", ".aif", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".flac", ".m4a", ".mka", ".mkv", ".mov"}
    | {".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".tta", ".w64", ".wav", ".webm", ".wma", ".wv"}
)
"""A file of such a name is taken whatever it holds: a damaged recording is to be reported, not passed over."""


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        files: paths of recordings, sorted, each once.
        skipped: files in folders that hold something else.
    """

    files: tuple[str, ...]
    skipped: int


def find(paths: Iterable[str | os.PathLike[str]], *, recursive: bool = False) -> Found:
    """Find recordings. A file that is named is taken as it is, a folder is looked through.

    Args:
        paths: files and folders.
        recursive: whether folders in folders are looked through too; symlinks to folders never are.

    Raises:
        AudioError: a folder cannot be read.
    """
    files: set[str] = set()
    skipped: set[str] = set()
    for path in paths:
        if Path(path).is_dir():
            for file in _walk(os.fspath(path), recursive=recursive):
                (files if is_recording(file) else skipped).add(file)
        else:
            files.add(os.path.normpath(path))
    return Found(tuple(sorted(files)), len(skipped - files))


def is_recording(path: str) -> bool:
    """Tell whether a file holds sound, by its first bytes or, failing that, its name."""
    if os.path.splitext(path)[1].lower() in SUFFIXES:  # noqa: PTH122 - called for every file of a large tree
        return True
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return SIGNATURES.match(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False


def _walk(folder: str, *, recursive: bool) -> Iterator[str]:
    """Yield the regular files of a folder."""
    for directory, folders, names in os.walk(folder, onerror=_refuse):
        if not recursive:
            folders.clear()
        for name in names:
            path = os.path.normpath(os.path.join(directory, name))  # noqa: PTH118 - as above
            if os.path.isfile(path):  # noqa: PTH113 - as above
                yield path


def _refuse(error: OSError) -> None:
    """Stop at a folder that cannot be read: nobody would miss what is in it."""
    raise AudioError(f"{error.filename} cannot be read ({error.strerror}); check its permissions, or leave it out")
