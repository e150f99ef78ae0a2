"""Recordings in folders, found by the content of files and not only by their names."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from clapedge.audio.sources import shown_name
from clapedge.errors import AudioError
from clapedge.terminal import counted

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


SYSTEM_FOLDERS = frozenset({"system volume information", "$recycle.bin", "recycler", "lost+found", "@eadir"})
"""Folders of Windows, Linux and Synology on a card or disk, in lower case: deleted and repaired files, previews.
Those of macOS, and the files `._NAME` in which it keeps its own notes, begin with a dot."""


@dataclass(frozen=True)
class FoundRecordings:
    """What `find_recordings` found.

    Attributes:
        files: paths of recordings, sorted, each once.
        skipped: number of other files in the folders.
        hidden: hidden files and folders that were passed over, sorted.
        unreadable: folders that cannot be read, each with the reason, sorted.
    """

    files: tuple[str, ...]
    skipped: int
    hidden: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()

    def notes(self) -> list[str]:
        """Return a sentence about each kind of what was passed over though it may hold sound."""
        sentences = []
        if self.hidden:
            count = counted(len(self.hidden), "hidden file or folder", nouns="hidden files and folders")
            sentences.append(f"passed over {count}, such as {shown_name(self.hidden[0])}")
        if self.unreadable:
            folder, reason = self.unreadable[0]
            count = counted(len(self.unreadable), "folder")
            sentences.append(f"passed over {count} that cannot be read, such as {shown_name(folder)} ({reason})")
        return sentences


def find_recordings(
    paths: Iterable[str | os.PathLike[str]], *, recursive: bool = False, hidden: bool = False
) -> FoundRecordings:
    """Find recordings: every named file, and those in named folders.

    Args:
        paths: files and folders.
        recursive: whether to search folders in folders; symlinks to folders are never followed.
        hidden: whether to take what is hidden in them: names that begin with a dot, and `SYSTEM_FOLDERS`.

    Raises:
        AudioError: a named folder cannot be read.
    """
    walk = _Walk(recursive=recursive, hidden=hidden)
    files: set[str] = set()
    skipped: set[str] = set()
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - where Path raises for a name that is too long
            for file in walk.files(os.fspath(path)):
                (files if is_recording(file) else skipped).add(file)
        else:
            files.add(os.path.normpath(path))
    passed_over = tuple(sorted(walk.hidden - files))
    return FoundRecordings(
        tuple(sorted(files)), len(skipped - files), passed_over, tuple(sorted(walk.unreadable.items()))
    )


def is_recording(path: str) -> bool:
    """Return whether a file has sound, by its first bytes or, failing that, its name."""
    if os.path.splitext(path)[1].lower() in SUFFIXES:  # noqa: PTH122 - called for every file of a large tree
        return True
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return SIGNATURES.match(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False


class _Walk:
    """Walks folders, and keeps what it passed over.

    Attributes:
        hidden: paths of hidden files and folders.
        unreadable: the reasons why folders cannot be read, by their paths.
    """

    def __init__(self, *, recursive: bool, hidden: bool) -> None:
        """Set what is walked, see `find_recordings`."""
        self._recursive, self._takes_hidden = recursive, hidden
        self.hidden: set[str] = set()
        self.unreadable: dict[str, str] = {}

    def files(self, root: str) -> Iterator[str]:
        """Yield the regular files of a folder.

        Raises:
            AudioError: the folder itself cannot be read.
        """

        def failed(error: OSError) -> None:
            folder, reason = os.fspath(error.filename), error.strerror or str(error)
            if folder == root:
                raise AudioError(
                    f"{shown_name(root)} cannot be read ({reason}); check its permissions, or leave it out"
                )
            self.unreadable[os.path.normpath(folder)] = reason

        for directory, folders, names in os.walk(root, onerror=failed):
            folders[:] = [name for name in folders if self._recursive and self._takes(directory, name, SYSTEM_FOLDERS)]
            for name in names:
                path = os.path.normpath(os.path.join(directory, name))  # noqa: PTH118 - called for every file of a large tree
                if self._takes(directory, name) and os.path.isfile(path):  # noqa: PTH113 - as above
                    yield path

    def _takes(self, directory: str, name: str, system: Collection[str] = ()) -> bool:
        """Return whether a file or folder is not hidden, or hidden ones are taken; keep it if not."""
        if self._takes_hidden or not (name.startswith(".") or name.lower() in system):
            return True
        self.hidden.add(os.path.normpath(os.path.join(directory, name)))  # noqa: PTH118 - as above
        return False
