"""What the OpenAPI document says of bodies and answers that FastAPI does not see for itself."""

from typing import Any

from clapedge.serve.errors import MEDIA_TYPE
from clapedge.serve.json_lines import JSON_LINES
from clapedge.serve.schemas import EventRecord, ProblemRecord

SCHEMAS = "#/components/schemas/"

REFUSALS = {
    400: "The request is not understood.",
    401: "A key is needed.",
    403: "A page of another site sent it.",
    404: "Nothing has that name.",
    408: "The body comes too slowly.",
    413: "The upload is too large.",
    422: "The recording, the labels or an option cannot be used.",
    429: "The queue is full; `Retry-After` says when to come back.",
    503: "The service is starting or ending, or the model failed.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe errors.

    Args:
        *statuses: their HTTP statuses; none means all.
    """
    schema = {"$ref": f"{SCHEMAS}{ProblemRecord.__name__}"}
    return {
        status: {"description": REFUSALS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses or REFUSALS
    }


PROBLEMS = problems()


BINARY = {"type": "string", "format": "binary"}

FORMS: dict[str, dict[str, Any]] = {
    "RecordingForm": {"file": {**BINARY, "description": "The recording."}},
    "ScoreForm": {
        "file": {**BINARY, "description": "The recording."},
        "label_file": {**BINARY, "description": "A label file: .toml, .csv or .txt."},
    },
}
"""Bodies of routes that take a recording. Their other fields are documented as parameters of the query alone: clients
made from a document send what is set in either place, and a field in both is refused."""


def upload(form: str) -> dict[str, Any]:
    """Describe the body of a route that takes a recording: a form, or the recording itself.

    Args:
        form: a key of `FORMS`.
    """
    content = {
        "multipart/form-data": {"schema": {"$ref": SCHEMAS + form}},
        "application/octet-stream": {"schema": BINARY},
    }
    described = "A form, in which every parameter of the query may stand instead; or the recording itself."
    return {"openapi_extra": {"requestBody": {"required": True, "description": described, "content": content}}}


EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One event a line, in the order in which they begin; a last line with `error` if it fails.",
        "content": {
            JSON_LINES: {"schema": {"type": "string"}, "itemSchema": {"$ref": f"{SCHEMAS}{EventRecord.__name__}"}}
        },
    },
    **PROBLEMS,
}


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document with the schemas that FastAPI has not met, and its own kind of error taken out."""
    schemas = document["components"]["schemas"]
    for record in (ProblemRecord, EventRecord):
        schemas[record.__name__] = record.model_json_schema(ref_template=SCHEMAS + "{model}")
    for name, properties in FORMS.items():
        schemas[name] = {"title": name, "type": "object", "properties": properties, "required": ["file"]}
    for path in document["paths"].values():
        for operation in path.values():
            refused = operation["responses"].get("422", {})
            if "application/json" in refused.get("content", {}):
                operation["responses"]["422"] = problems(422)[422]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "Where the service was given a key file."},
        "basic": {"type": "http", "scheme": "basic", "description": "Any user; the key is the password."},
    }
    document["security"] = [{}, {"bearer": []}, {"basic": []}]
    return document
