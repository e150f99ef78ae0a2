"""Uploads: a multipart form or a raw body, read as it comes, to a file that nobody else can open."""

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote

import msgspec
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from clapedge.errors import ClapEdgeError, LabelError, StorageError
from clapedge.labels import LabelSet
from clapedge.serve.errors import GoneError, RequestError, TooLargeError

IN_MEMORY = 4_000_000
"""Bytes of an upload that are kept in memory: 20 s of 16-bit stereo. Larger ones go to a temporary file, which has no
name and vanishes when it is closed."""

MOST_IN_MEMORY = 64
"""Uploads that are kept in memory at once; while there are more, the newer ones go to files from the first byte on."""

MOST_FIELDS = 1000
"""Fields of a form; labels may come as one field each."""

FIELD_BYTES = 200_000
"""Bytes of one field, or of a label file."""

FIELDS_BYTES = 1_000_000
"""Bytes of all fields of a form: they are kept in memory, unlike files."""

LABEL_SUFFIXES = (".toml", ".csv", ".txt")

FILE_FIELD, LABEL_FIELD = "file", "label_file"


class Recording:
    """A recording that was uploaded, as the engine reads it: a file object with the client's name for it."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Give a file a name."""
        self.name = name
        self._file = file
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def seekable(self) -> bool:
        """Return True."""
        return True


@dataclass
class Upload:
    """What a request carried.

    Attributes:
        recording: the recording; None if there was none.
        label_file: name and content of a label file that came along.
        fields: the form's other fields.
    """

    recording: Recording | None = None
    label_file: tuple[str, bytes] | None = None
    fields: dict[str, list[str]] = field(default_factory=dict)


@asynccontextmanager
async def received(request: Request, *, name: str = "recording") -> AsyncIterator[Upload]:
    """Read the body of a request; its file is closed and gone when the block ends.

    Args:
        request: a multipart form with the field `file`, or a body that is the recording itself.
        name: what the recording is called if the client gives no name.

    Raises:
        RequestError: the form is not understood.
        GoneError: the client left.
    """
    files: list[IO[bytes]] = []
    service = request.app.state.service
    service.receiving += 1
    spool = IN_MEMORY if service.receiving <= MOST_IN_MEMORY else 1
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            yield await _form(request, files, spool, service.settings.max_upload)
        else:
            yield await _body(request, files, spool, name)
    except ClientDisconnect:
        raise GoneError from None
    except OSError as error:
        if isinstance(error, ClapEdgeError):
            raise
        raise StorageError(f"the upload cannot be kept ({error.strerror}); make room for temporary files") from error
    finally:
        service.receiving -= 1
        for file in files:
            file.close()


async def _body(request: Request, files: list[IO[bytes]], spool: int, name: str) -> Upload:
    """Read a body that is the recording itself."""
    file = tempfile.SpooledTemporaryFile(spool)  # noqa: SIM115 - closed by the caller
    files.append(file)
    size = 0
    async for chunk in request.stream():
        size += file.write(chunk)
    if not size:
        raise RequestError("the request carries no recording; send it as the body, or as the field file of a form")
    file.seek(0)
    return Upload(Recording(file, name))


class _FormParser(MultiPartParser):
    """A parser of forms whose fields are short together, not each by itself alone."""

    _kept = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a part, see `MultiPartParser`."""
        if self._current_part.file is None:
            self._kept += end - start
            if self._kept > FIELDS_BYTES:
                raise MultiPartException(f"its fields have more than {FIELDS_BYTES} bytes")
        super().on_part_data(data, start, end)


async def _form(request: Request, files: list[IO[bytes]], spool: int, most: int) -> Upload:
    """Read a multipart form."""
    parser = _FormParser(
        request.headers, request.stream(), max_files=2, max_fields=MOST_FIELDS, max_part_size=FIELD_BYTES
    )
    parser.spool_max_size = spool
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(
            f"the form is not understood ({error.message.rstrip('.')}); send it as curl -F does"
        ) from error
    upload = Upload()
    for key, value in form.multi_items():
        if not isinstance(value, UploadFile):
            upload.fields.setdefault(key, []).append(value)
            continue
        files.append(value.file)
        if key == FILE_FIELD and upload.recording is None:
            if (value.size or 0) > most:
                raise TooLargeError(most)
            upload.recording = Recording(value.file, _plain(value.filename))
        elif key == LABEL_FIELD and upload.label_file is None:
            upload.label_file = (_plain(value.filename), _content(value))
        else:
            raise RequestError(f"the form has a file {key!r:.40} too many; send one named file, and one label_file")
    return upload


def _content(part: UploadFile) -> bytes:
    """Return the content of a label file.

    Raises:
        RequestError: it is too long.
    """
    content = part.file.read(FIELD_BYTES + 1)
    if len(content) > FIELD_BYTES:
        raise RequestError(f"the label file is longer than {FIELD_BYTES} bytes; leave labels out")
    return content


def _plain(name: str | None) -> str:
    """Return a file name as records show it; it never names a file here."""
    return unquote(name or "recording").encode("utf-8", "replace").decode()[:1000]


def read_label_file(name: str, content: bytes) -> LabelSet:
    """Make the label set of a label file that was sent along; it is read from a directory of its own.

    Raises:
        LabelError: it is not understood, or extends a file, which a request never names.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in LABEL_SUFFIXES:
        raise LabelError(f"label file {name!r:.60} ends in none of {', '.join(LABEL_SUFFIXES)}; name it so")
    if suffix == ".toml" and "extends" in _table(name, content):
        raise LabelError(f"label file {name!r:.60} extends another one; send one file with all labels")
    with tempfile.TemporaryDirectory(prefix="clapedge-") as directory:
        path = Path(directory, f"labels{suffix}")
        path.write_bytes(content)
        try:
            return LabelSet.from_file(path)
        except LabelError as error:
            raise LabelError(str(error).replace(str(path), name[:60])) from None


def _table(name: str, content: bytes) -> dict[str, object]:
    """Return the table of a TOML file.

    Raises:
        LabelError: it is none.
    """
    try:
        return msgspec.toml.decode(content, type=dict[str, object])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # some of it is nested without end
        raise LabelError(f"label file {name!r:.60} is no TOML ({error}); mend it there") from error


def merged(query: Mapping[str, Sequence[str]], form: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Join the fields of a query and of a form.

    Raises:
        RequestError: a field stands in both.
    """
    twice = sorted(query.keys() & form.keys())
    if twice:
        raise RequestError(f"{twice[0]} stands in the query and in the form; leave one of them out")
    return {name: list(values) for name, values in (*query.items(), *form.items())}
