"""Keys, requests of other sites, and the headers of every response."""

import base64
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.serve.staging import SIREN, made

from clapedge.cli.serve import read_size, serve
from clapedge.errors import MissingExtraError, UsageError
from clapedge.serve.app import create_app
from clapedge.serve.server import read_keys

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture(scope="module")
def locked() -> Any:  # noqa: ANN401 - a generator of clients
    """Yield a client of a service with keys."""
    with TestClient(create_app(made(keys=(KEY, OTHER)), page=False)) as client:
        yield client


def basic(password: str) -> dict[str, str]:
    """Return the header that a browser sends for a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer {OTHER}"},
        {"X-API-Key": KEY},
        basic(KEY),
    ],
)
def test_each_key_opens_in_each_form(locked: TestClient, headers: dict[str, str]) -> None:
    assert locked.get("/v1/models", headers=headers).status_code == 200
    answer = locked.post("/v1/score", params={"labels": "rain,wind"}, content=SIREN.read_bytes(), headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": "Bearer"},
        {"Authorization": KEY},
        {"Authorization": "Basic %%%"},
        {"X-API-Key": "schlüssel".encode()},
        basic(""),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/openapi.json", "/", "/nothing"])
def test_nothing_else_opens_anything(locked: TestClient, headers: dict[str, str], path: str) -> None:
    answer = locked.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert answer.json()["error"] == "KeyRefusedError"


def test_health_is_served_without_a_key(locked: TestClient) -> None:
    assert locked.get("/healthz").json()["status"] == "ok"
    assert locked.get("/readyz").json() == {"ready": True, "bundle": "demo", "refused": None}


def test_every_answer_has_security_headers_and_no_other_origin_is_let_in(app: Any) -> None:  # noqa: ANN401
    with TestClient(app) as client:
        for path in ("/v1/models", "/nothing", "/healthz"):
            headers = client.get(path, headers={"Origin": "https://example.org"}).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"
            assert not [name for name in headers if name.startswith("access-control")]


def test_a_page_of_another_site_cannot_make_a_browser_ask(app: Any) -> None:  # noqa: ANN401
    with TestClient(app) as client:
        answer = client.post("/v1/score", content=b"x", headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403
        assert client.post("/v1/score", content=b"x", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 422
        assert client.get("/v1/models", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_key_file_has_one_key_a_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# the lab\n{KEY}\n\n  {OTHER}  \n")
    assert read_keys(path) == (KEY, OTHER)


@pytest.mark.parametrize("content", [b"", b"# none\n", b"short\n", "schlüsselschlüssel\n".encode(), b"\xff" * 20])
def test_a_key_file_that_opens_to_guesses_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="key"):
        read_keys(path)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:7860", 200),
        ("127.0.0.1:7860", 200),
        ("[::1]:7860", 200),
        ("evil.example:7860", 403),
        ("127.0.0.1.evil.example", 403),
        ("[", 200),
    ],
)
def test_a_name_that_was_pointed_to_this_machine_is_refused_without_keys(host: str, status: int) -> None:
    with TestClient(create_app(made(), page=False), client=("127.0.0.1", 50000)) as client:
        answer = client.get("/v1/models", headers={"Host": host})
        assert answer.status_code == status
        assert ("--api-key-file" in answer.text) == (status == 403)


def test_a_name_is_no_matter_with_keys_or_from_elsewhere() -> None:
    named = {"Host": "sounds.example"}
    with TestClient(create_app(made(keys=(KEY,)), page=False), client=("127.0.0.1", 50000)) as client:
        assert client.get("/v1/models", headers={**named, "X-API-Key": KEY}).status_code == 200
    with TestClient(create_app(made(), page=False), client=("192.0.2.7", 50000)) as client:
        assert client.get("/v1/models", headers=named).status_code == 200


@pytest.mark.parametrize(
    ("text", "size"), [("50MB", 50_000_000), ("1.5 gb", 1_500_000_000), ("700", 700), ("2KB", 2000)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "0", "1TB", "9GB", "nan"])
def test_what_is_not_a_size_is_reported(text: str) -> None:
    with pytest.raises(UsageError, match="size"):
        read_size(text)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapedge.cli.serve.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"clapedge\[web\]"):
        serve.main(["--port", "0"], standalone_mode=False)
