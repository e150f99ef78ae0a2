"""Uploads: a multipart form or a raw body, read as it arrives, into a file that no other process can open."""

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast
from urllib.parse import unquote

import msgspec
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from clapedge.errors import ClapEdgeError, LabelError, StorageError
from clapedge.labels import LabelSet
from clapedge.serve.errors import GoneError, RequestError, TooLargeError
from clapedge.serve.label_store import SUFFIXES

IN_MEMORY = 4_000_000
"""Bytes of an upload that is kept in memory: 20 s of 16-bit stereo. A larger one goes to a temporary file without a
name, which vanishes when it is closed."""

MOST_IN_MEMORY = 64
"""Uploads that are kept in memory at once; further ones go to files from the first byte on."""

MOST_FIELDS = 1000
"""Fields of a form; each label may be a field of its own."""

FIELD_BYTES = 200_000
"""Bytes of one field, or of a label file."""

FIELDS_BYTES = 1_000_000
"""Bytes of all fields of a form, which are kept in memory."""

FILE_FIELD, LABEL_FIELD = "file", "label_file"

NAMELESS = "recording"
"""Name of a recording to which the client gives none."""


class UploadedRecording:
    """A recording as the engine reads it: a file object with the name that the client gave."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Name a file."""
        self.name = name
        self._file = file
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def seekable(self) -> bool:
        """Return True."""
        return True


@dataclass
class Upload:
    """The body of a request.

    Attributes:
        file: the recording; None if there is none.
        label_file: name and content of the label file, if there is one.
        fields: the form's other fields.
    """

    file: UploadedRecording | None = None
    label_file: tuple[str, bytes] | None = None
    fields: dict[str, list[str]] = field(default_factory=dict)

    @property
    def recording(self) -> BinaryIO:
        """The recording.

        Raises:
            RequestError: there is none.
        """
        if self.file is None:
            raise RequestError("the form carries no recording; send it as the field file")
        return cast("BinaryIO", self.file)  # the methods of a file object that the engine uses


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Upload]:
    """Read the body of a request; its files are closed when the block ends.

    Args:
        request: a multipart form with the field `file`, or a body that is the recording itself.

    Raises:
        RequestError: the form is malformed.
        GoneError: the client disconnected.
    """
    files: list[IO[bytes]] = []
    service = request.app.state.service
    service.receiving += 1
    spool = IN_MEMORY if service.receiving <= MOST_IN_MEMORY else 1
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            yield await _form(request, files, spool, service.settings.max_upload)
        else:
            yield await _body(request, files, spool)
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


async def _body(request: Request, files: list[IO[bytes]], spool: int) -> Upload:
    """Read a body that is the recording itself."""
    file = tempfile.SpooledTemporaryFile(spool)  # noqa: SIM115 - closed by the caller
    files.append(file)
    size = 0
    async for chunk in request.stream():
        size += file.write(chunk)
    if not size:
        raise RequestError("the request carries no recording; send it as the body, or as the field file of a form")
    file.seek(0)
    return Upload(UploadedRecording(file, NAMELESS))


class _FormParser(MultiPartParser):
    """A parser of forms that limits the size of all fields together, not only of each."""

    _size = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Receive a piece of a part, see `MultiPartParser`."""
        if self._current_part.file is None:
            self._size += end - start
            if self._size > FIELDS_BYTES:
                raise MultiPartException(f"its fields have more than {FIELDS_BYTES} bytes")
        super().on_part_data(data, start, end)


async def _form(request: Request, files: list[IO[bytes]], spool: int, limit: int) -> Upload:
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
        if key == FILE_FIELD and upload.file is None:
            if (value.size or 0) > limit:
                raise TooLargeError(limit)
            upload.file = UploadedRecording(value.file, _file_name(value.filename))
        elif key == LABEL_FIELD and upload.label_file is None:
            upload.label_file = (_file_name(value.filename), _content(value))
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


def _file_name(name: str | None) -> str:
    """Return the name of a file as results show it; it is never opened."""
    return unquote(name or NAMELESS).encode("utf-8", "replace").decode()[:1000]


def read_label_file(name: str, content: bytes) -> LabelSet:
    """Return the label set of a label file that a client has sent.

    Raises:
        LabelError: it is not understood, or extends another file, which a request may not name.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise LabelError(f"label file {name!r:.60} ends in none of {', '.join(SUFFIXES)}; name it so")
    if suffix == ".toml" and "extends" in _toml(name, content):
        raise LabelError(f"label file {name!r:.60} extends another one; send one file with all labels")
    with tempfile.TemporaryDirectory(prefix="clapedge-") as directory:
        path = Path(directory, f"labels{suffix}")
        path.write_bytes(content)
        try:
            return LabelSet.from_file(path)
        except LabelError as error:
            raise LabelError(str(error).replace(str(path), name[:60])) from None


def _toml(name: str, content: bytes) -> dict[str, object]:
    """Return the table of a TOML file.

    Raises:
        LabelError: it is not TOML.
    """
    try:
        return msgspec.toml.decode(content, type=dict[str, object])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # it may be nested too deeply
        raise LabelError(f"label file {name!r:.60} is not TOML ({error}); correct it there") from error


def merge_fields(query: Mapping[str, Sequence[str]], form: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the fields of a query and of a form.

    Raises:
        RequestError: a field is in both.
    """
    twice = sorted(query.keys() & form.keys())
    if twice:
        raise RequestError(f"{twice[0]} is in the query and in the form; leave one of them out")
    return {name: list(values) for name, values in (*query.items(), *form.items())}
