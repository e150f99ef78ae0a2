"""The OpenAPI document is good enough for clients that nobody has written, and for those that mean ill."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from tests.serve.staging import SIREN, Running, serving

from clapedge.engine import Engine
from clapedge.labels import LabelSet, shipped_sets
from clapedge.serve.app import create_app
from clapedge.serve.service import Service
from clapedge.serve.settings import Settings

DOCUMENT = create_app(Service(Settings()), page=False).openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def sturdy() -> Iterator[Running]:
    """Yield a service for requests without sense."""
    with serving(max_seconds=60.0, max_sets=5) as one:
        yield one


@SCHEMA.parametrize()
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_that_the_document_describes_or_forbids_makes_the_service_fail(
    case: schemathesis.Case[Any], sturdy: Running
) -> None:
    answer = case.call(base_url=sturdy.url)
    assert answer.status_code < 500, answer.text
    described = DOCUMENT["paths"][case.path].get(case.method.lower(), {"responses": {"405": "another method"}})
    assert str(answer.status_code) in described["responses"]
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == ["application/problem+json"]


def test_every_operation_has_a_summary_a_name_and_described_errors() -> None:
    names = []
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert operation["summary"], path
            assert operation["description"], path
            if path.startswith("/v1/"):
                assert "application/problem+json" in operation["responses"]["401"]["content"], path
    assert len(set(names)) == len(names)
    assert "HTTPValidationError" not in json.dumps(DOCUMENT)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401 - a package that is not there yet
    """Return a client package that openapi-python-client has made of the document."""
    directory = tmp_path_factory.mktemp("generated")
    (directory / "openapi.json").write_text(json.dumps(DOCUMENT))
    (directory / "config.yml").write_text("post_hooks: []\ncontent_type_overrides: {application/jsonl: text/plain}\n")
    tool = Path(sys.executable).with_name("openapi-python-client")
    command = [str(tool), "generate", "--path", "openapi.json", "--config", "config.yml", "--meta", "none"]
    done = subprocess.run(
        [*command, "--output-path", "generated_client"], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
    sys.path.insert(0, str(directory))
    yield importlib.import_module("generated_client")
    sys.path.remove(str(directory))


def test_a_generated_client_scores_a_file_to_the_last_digit(
    generated: Any,  # noqa: ANN401
    running: Running,
    engine: Engine,
) -> None:
    score = importlib.import_module("generated_client.api.default.score")
    models = importlib.import_module("generated_client.models")
    types = importlib.import_module("generated_client.types")
    file = types.File(payload=SIREN.open("rb"), file_name="siren.flac", mime_type="audio/flac")
    expected = engine.score(SIREN, LabelSet.from_file(shipped_sets()["home"]))
    with generated.Client(base_url=running.url) as client:
        answer = score.sync(client=client, body=models.ScoreForm(file=file), label_set="home")
    assert isinstance(answer, models.ResultRecord)
    assert [(label.name, label.probability, label.similarity) for label in answer.labels] == [
        (label.name, label.probability, label.similarity) for label in expected.labels
    ]
    assert answer.file == "siren.flac"
    assert answer.heard.end == expected.coverage.end


def test_a_generated_client_understands_what_went_wrong(generated: Any, running: Running) -> None:  # noqa: ANN401
    score = importlib.import_module("generated_client.api.default.score")
    models = importlib.import_module("generated_client.models")
    types = importlib.import_module("generated_client.types")
    file = types.File(payload=SIREN.open("rb"), file_name="siren.flac")
    with generated.Client(base_url=running.url) as client:
        answer = score.sync(client=client, body=models.ScoreForm(file=file), label_set="nothing")
    assert isinstance(answer, models.ProblemRecord)
    assert answer.status == 404
    assert "there is no label set" in answer.detail
