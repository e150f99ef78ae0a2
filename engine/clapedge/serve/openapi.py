"""What FastAPI cannot derive of the OpenAPI document: bodies with recordings, streams and errors."""

from typing import Any

from clapedge.serve.errors import MEDIA_TYPE
from clapedge.serve.json_lines import JSON_LINES
from clapedge.serve.schemas import EventRecord, ProblemRecord

SCHEMAS = "#/components/schemas/"

DESCRIPTIONS = {
    400: "The request is malformed.",
    401: "An API key is required.",
    403: "A page of another site sent the request.",
    404: "Nothing has that name.",
    408: "The body arrives too slowly.",
    413: "The upload is too large.",
    422: "The recording, the labels or an option cannot be used.",
    429: "The queue is full; retry after the seconds in `Retry-After`.",
    503: "The service is starting or shutting down, or the model failed.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route, those of all statuses by default."""
    schema = {"$ref": f"{SCHEMAS}{ProblemRecord.__name__}"}
    return {
        status: {"description": DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses or DESCRIPTIONS
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
"""Bodies of routes that take a recording. Their other fields are documented as query parameters only: generated clients
would send them in both places, which is an error."""


def upload_body(form: str) -> dict[str, Any]:
    """Return the body of a route that takes a recording, as the form of that name in `FORMS` or bare."""
    content = {
        "multipart/form-data": {"schema": {"$ref": SCHEMAS + form}},
        "application/octet-stream": {"schema": BINARY},
    }
    description = "A form, which may also hold the query parameters, or the recording itself."
    return {"openapi_extra": {"requestBody": {"required": True, "description": description, "content": content}}}


EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One event per line, in order of their starts; a last line with `error` if the work fails.",
        "content": {
            JSON_LINES: {"schema": {"type": "string"}, "itemSchema": {"$ref": f"{SCHEMAS}{EventRecord.__name__}"}}
        },
    },
    **PROBLEMS,
}


def complete_document(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that FastAPI cannot see to an OpenAPI document, take out its own errors, and return it."""
    schemas = document["components"]["schemas"]
    for record in (ProblemRecord, EventRecord):
        schemas[record.__name__] = record.model_json_schema(ref_template=SCHEMAS + "{model}")
    for name, properties in FORMS.items():
        schemas[name] = {"title": name, "type": "object", "properties": properties, "required": ["file"]}
    for path in document["paths"].values():
        for operation in path.values():
            invalid = operation["responses"].get("422", {})
            if "application/json" in invalid.get("content", {}):
                operation["responses"]["422"] = problems(422)[422]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "If the service has a key file."},
        "basic": {"type": "http", "scheme": "basic", "description": "Any user; the key is the password."},
    }
    document["security"] = [{}, {"bearer": []}, {"basic": []}]
    return document
