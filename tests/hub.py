"""A stand-in of the Hugging Face hub on loopback: it serves directories as model repositories, and takes commits.

The routes, headers and errors are those that `huggingface_hub` 2.4 calls and understands (`hf_api.py`, `lfs.py`,
`file_download.py`, `_commit_api.py`, `utils/_http.py`). Large files are redirected to signed addresses of another host
name, as the hub does. There is no Xet storage, which the hub announces in headers that a mirror may leave out; for an
upload the client has to know that: `HF_HUB_DISABLE_XET=1`, which `use` and `environment` set.
"""

import base64
import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

import pytest

Access = Literal["public", "private", "gated"]

LARGE_SUFFIXES = {".bin", ".gz", ".npz", ".onnx", ".pt", ".safetensors", ".tar", ".zip", ".zst"}
"""Endings that a new repository's .gitattributes gives to large-file storage."""


@dataclass(frozen=True)
class Entry:
    """A file of a repository: where it lies and the hashes that the hub states."""

    path: Path
    size: int
    git_sha1: str
    sha256: str | None
    """Of a file in large-file storage, else None."""

    @property
    def etag(self) -> str:
        """The hash by which a client keeps it."""
        return self.sha256 or self.git_sha1

    def listed(self, name: str) -> dict[str, Any]:
        """Return its entry of a tree listing."""
        large = {"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 134}} if self.sha256 else {}
        return {"type": "file", "path": name, "oid": self.git_sha1, "size": self.size, **large}


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit."""

    commit: str
    files: dict[str, Entry]


@dataclass(frozen=True)
class Request:
    """A request that arrived."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """A hub of its own for a test; use it as a context manager.

    Attributes:
        token: what a private or gated repository demands.
        access: of every repository. The files' list of a gated one is public, its files are not.
        cuts: by file name, how many bytes each coming download sends before the connection breaks.
        lies: names of files of which one byte is wrong, though size and stated hash are right.
        requests: what arrived, in order.
    """

    token: str = "hf_right"  # noqa: S105  # a stand-in's
    access: Access = "public"
    cuts: dict[str, list[int]] = field(default_factory=dict)
    lies: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    repositories: dict[str, dict[str, Snapshot]] = field(default_factory=dict)
    """Snapshots by the name of the repository, and by branch, tag and commit."""

    def __enter__(self) -> "Hub":  # noqa: PYI034  # typing has no Self before Python 3.11
        """Start to serve."""
        self.folder = Path(tempfile.mkdtemp(prefix="hub-"))
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        # it looks for the end of a test this often, in seconds
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop to serve: afterwards connections are refused."""
        self.stop()
        shutil.rmtree(self.folder)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What `HF_ENDPOINT` has to be."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Refuse connections from now on, as a network that is gone."""
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, directory: Path, *, revision: str = "main") -> str:
        """Serve a directory as a repository at a branch or tag, and return the commit."""
        found = {
            path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()
        }
        files = {key: _entry(path) for key, path in found.items()}
        listing = "".join(f"{entry.etag} {key}\n" for key, entry in files.items())
        snapshot = Snapshot(hashlib.sha1(listing.encode()).hexdigest(), files)  # noqa: S324  # as git names commits
        self.repositories.setdefault(name, {}).update({revision: snapshot, snapshot.commit: snapshot})
        return snapshot.commit

    def downloads(self) -> list[str]:
        """Return the names of the files whose content was asked for, in order."""
        resolved = [part for one in self.requests if one.method == "GET" for part in one.path.split("/resolve/")[1:]]
        large = [unquote(one.path.rpartition("=")[2]) for one in self.requests if one.path.startswith("/cdn/")]
        return [name.partition("/")[2] for name in resolved] + large

    def use(self, monkeypatch: pytest.MonkeyPatch, cache: Path, *, token: str | None = None) -> None:
        """Make the hub's library in this process talk to this hub and keep what it downloads in `cache`."""
        from huggingface_hub import constants

        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, self.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        if token is None:
            monkeypatch.delenv("HF_TOKEN", raising=False)
        else:
            monkeypatch.setenv("HF_TOKEN", token)

    def environment(self, home: Path, *, token: str | None = None) -> dict[str, str]:
        """Return the variables with which another process talks to this hub and keeps what it downloads in `home`."""
        given = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return given if token is None else {**given, "HF_TOKEN": token}

    def by_hash(self, sha256: str) -> Entry | None:
        """Return a file of the large-file storage."""
        snapshots = (one for revisions in self.repositories.values() for one in revisions.values())
        entries = (entry for snapshot in snapshots for entry in snapshot.files.values())
        return next((entry for entry in entries if entry.sha256 == sha256), None)

    def commit(self, name: str, revision: str, lines: Iterable[dict[str, Any]]) -> str:
        """Write a commit on top of a branch, and return its hash."""
        directory = Path(tempfile.mkdtemp(dir=self.folder))
        present = self.repositories[name].get(revision)
        for key, entry in present.files.items() if present else ():
            (directory / key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry.path, directory / key)
        for line in lines:
            if line["key"] == "header":
                continue
            target = directory / line["value"]["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            if line["key"] == "file":
                target.write_bytes(base64.b64decode(line["value"]["content"]))
            elif line["key"] == "lfsFile":
                shutil.copyfile(self.folder / line["value"]["oid"], target)
            elif line["key"] == "deletedFile":
                target.unlink()
        return self.add(name, directory, revision=revision)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Log nothing: `Hub.requests` keeps what a test asks for."""

    def do_HEAD(self) -> None:
        """Answer without content."""
        self._get()

    def do_GET(self) -> None:
        """Answer with content."""
        self._get()

    def do_PUT(self) -> None:
        """Take a large file."""
        self._record()
        (self.hub.folder / urlsplit(self.path).path.rpartition("/")[2]).write_bytes(self._body())
        self._json({})

    def do_POST(self) -> None:
        """Make a repository, or take the steps of a commit."""
        self._record()
        body, path = self._body(), urlsplit(self.path).path
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self._token() != self.hub.token:
            self._error(401, "", "Invalid credentials in Authorization header")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [self._upload(one) for one in json.loads(body)["objects"]]
            self._json({"transfer": "basic", "objects": objects})
        else:
            self._commit(path, body)

    def _commit(self, path: str, body: bytes) -> None:
        """Answer how files have to be sent, or write the commit."""
        name, action, revision = self._action(path)
        if name not in self.hub.repositories:
            self._error(404, "RepoNotFound", "Repository not found")
        elif action == "preupload":
            names = [one["path"] for one in json.loads(body)["files"]]
            files = [{"path": one, "uploadMode": _mode(one), "shouldIgnore": False} for one in names]
            self._json({"files": files})
        else:
            commit = self.hub.commit(name, revision, map(json.loads, body.splitlines()))
            self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _get(self) -> None:
        self._record()
        parts = urlsplit(self.path)
        if parts.path.startswith("/cdn/"):
            self._signed(parts.path.rpartition("/")[2], unquote(parts.query.partition("=")[2]))
            return
        name, action, rest = self._action(parts.path)
        if self._refused(name, action):
            return
        revision, _, file = rest.partition("/") if action == "resolve" else (rest, "", "")
        snapshot = self.hub.repositories[name].get(unquote(revision))
        if snapshot is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif action == "resolve":
            self._resolve(snapshot, unquote(file))
        elif action == "tree":
            self._json([entry.listed(key) for key, entry in snapshot.files.items()])
        else:
            self._json(self._info(name, snapshot))

    def _signed(self, sha256: str, name: str) -> None:
        """Answer with a large file, which needs no token."""
        entry = self.hub.by_hash(sha256)
        if entry is None:
            self._error(403)
        else:
            self._content(entry, name)

    def _action(self, path: str) -> tuple[str, str, str]:
        """Return repository, action and the rest (a revision, and a file's name) of a path."""
        parts = path.removeprefix("/api/models").strip("/").split("/")
        rest = parts[3:] if "resolve" in parts[2:3] else [unquote("/".join(parts[3:]))]
        return "/".join(parts[:2]), parts[2] if len(parts) > 2 else "info", "/".join(rest) or "main"

    def _refused(self, name: str, action: str) -> bool:
        """Answer with the hub's error where a repository is missing or not for this caller, and return whether."""
        token, hub = self._token(), self.hub
        known = token == hub.token
        if token is not None and not known:
            self._error(401, "", "Invalid credentials in Authorization header")
        elif name not in hub.repositories or (hub.access == "private" and not known):
            self._error(404 if known else 401, "RepoNotFound", "Repository not found")
        elif hub.access == "gated" and action == "resolve" and not known:
            self._error(
                401, "GatedRepo", f"Access to model {name} is restricted. You must be authenticated to access it."
            )
        else:
            return False
        return True

    def _info(self, name: str, snapshot: Snapshot) -> dict[str, Any]:
        siblings = []
        for key, entry in snapshot.files.items():
            large = {"lfs": {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}} if entry.sha256 else {}
            siblings.append({"rfilename": key, "size": entry.size, "blobId": entry.git_sha1, **large})
        return {"id": name, "modelId": name, "sha": snapshot.commit, "siblings": siblings, "tags": [], "private": False}

    def _resolve(self, snapshot: Snapshot, name: str) -> None:
        """Answer with a small file, or with where a large one lies."""
        commit = {"X-Repo-Commit": snapshot.commit}
        entry = snapshot.files.get(name)
        if entry is None:
            return self._error(404, "EntryNotFound", "Entry not found", **commit)
        if entry.sha256 is None:
            return self._content(entry, name, **commit)
        stated = {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        # another host name, so that a client must not send its token there
        signed = f"http://localhost:{self.hub.port}/cdn/{entry.sha256}?name={quote(name, safe='')}"
        return self._answer(302, b"", {**commit, **stated, "Location": signed})

    def _content(self, entry: Entry, name: str, **headers: str) -> None:
        """Send a file, or the range of it that was asked for; break off and falsify where a test wants that."""
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start >= entry.size > 0:
            self._answer(416, b"", {"Content-Range": f"bytes */{entry.size}"})
            return
        headers |= {"ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes", "Content-Length": str(entry.size - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{entry.size - 1}/{entry.size}"
        self._head(206 if start else 200, headers)
        if self.command == "HEAD":
            return
        content = bytearray(entry.path.read_bytes())
        if name in self.hub.lies:
            content[-1] ^= 1
        cuts = self.hub.cuts.get(name)
        if cuts:
            self.wfile.write(content[start : start + cuts.pop(0)])
        else:
            self.wfile.write(content[start:])

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repositories:
            return self._json(url, status=409)
        self.hub.repositories[name] = {}
        return self._json(url)

    def _upload(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return where a large file has to be sent."""
        return {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/upload/{wanted['oid']}"}}}

    def _record(self) -> None:
        self.hub.requests.append(Request(self.command, self.path, self.headers.get("Range"), self._token()))

    def _token(self) -> str | None:
        given = self.headers.get("Authorization")
        return None if given is None else given.removeprefix("Bearer ")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, content: object, *, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        stated = {"X-Error-Code": code} if code else {}
        self._answer(status, json.dumps({"error": message}).encode(), {**stated, "X-Error-Message": message, **headers})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        """Send status and headers; no connection is kept, so that none outlives the hub."""
        self.send_response(status)
        for key, value in {**headers, "Connection": "close"}.items():
            self.send_header(key, value)
        self.end_headers()


def _mode(name: str) -> str:
    return "lfs" if Path(name).suffix in LARGE_SUFFIXES else "regular"


def _entry(path: Path) -> Entry:
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324  # git's name of a file
    return Entry(path, len(content), git, hashlib.sha256(content).hexdigest() if _mode(path.name) == "lfs" else None)
