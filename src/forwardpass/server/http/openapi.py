"""The OpenAPI document of what is served right now, with each model's own inputs and outputs.

A pure function of the served models: every model that can answer has its predict paths, whose
bodies are described in ``schemas``; one that cannot has only those that tell its state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forwardpass import __version__
from forwardpass.server.http import schemas
from forwardpass.server.http.samples import Example, SampleBody, example_of
from forwardpass.server.served import ServedModel, newest

Json = dict[str, Any]
ERRORS = {
    "400": "The request is wrong; the message says what, which value and what to do",
    "404": "No such model, version or page",
    "413": "The body is over the limit",
    "429": "This caller has used up what it may use",
    "500": "The model failed",
    "503": "Not ready, or the queue is full; `Retry-After` says when to try again",
    "504": "The deadline passed",
}
PREDICT_ERRORS = tuple(ERRORS)


@dataclass(frozen=True)
class Taken:
    """What a server takes besides requests for its models."""

    jobs: bool = False
    intake: bool = False


def document(
    served: Sequence[ServedModel], url: str, samples: Mapping[ServedModel, SampleBody], taken: Taken | None = None
) -> Json:
    """OpenAPI 3.1 of the server at ``url``; ``samples`` are shown as examples."""
    taken = taken or Taken()
    paths = _server_paths() | _repository_paths(served)
    paths |= (_job_paths() if taken.jobs else {}) | (_intake_paths() if taken.intake else {})
    shapes: dict[str, Json] = {"Error": schemas.object_of({"error": {"type": "string"}}, ["error"])}
    for name in sorted({item.name for item in served}):
        versions = [item for item in served if item.name == name]
        for item in versions:
            shapes |= _shapes(item)
            paths |= _model_paths(item, f"{name}/versions/{item.version}", samples)
        paths |= _model_paths(newest(versions), name, samples) | _v1_status(name)
    if len({item.name for item in served}) == 1 and newest(served).ready:
        only = newest(served)
        paths["/invocations"] = {"post": _predict(only, samples.get(only), "Predict (SageMaker)", "invocations")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Forwardpass", "version": __version__, "description": "The models served here, live."},
        "servers": [{"url": url}],
        "tags": _tags(served),
        "paths": paths,
        "components": {"schemas": shapes, "responses": _error_responses()},
    }


def _tags(served: Sequence[ServedModel]) -> list[Json]:
    models = {item.name: item.info.description or item.reason for item in served}
    return [
        *({"name": name, "description": text} for name, text in models.items()),
        {"name": "server", "description": "Health, metrics and what is here"},
        {"name": "repository", "description": "Models loaded and unloaded while serving"},
        {"name": "jobs", "description": "Whole data sets, in the background of live requests"},
        {"name": "intake", "description": "What devices tell from their outboxes"},
    ]


# One model


def _model_paths(served: ServedModel, path: str, samples: Mapping[ServedModel, SampleBody]) -> Json:
    about, tag = f"/v2/models/{path}", served.name
    key = path.replace("/", "-")
    paths: Json = {
        f"{about}/ready": {"get": _get(f"ready-{key}", tag, "Can it answer?", "object", "404", "503")},
        f"{about}/stats": {"get": _get(f"stats-{key}", tag, "Counts and times", "object", "404")},
    }
    if not served.ready:
        return paths
    sample = samples.get(served)
    paths |= {
        about: {"get": _get(f"metadata-{key}", tag, "Its tensors", "object", "404", "503")},
        f"{about}/config": {"get": _get(f"config-{key}", tag, "Its configuration", "object", "404", "503")},
        f"{about}/infer": {"post": _infer(served, sample, f"infer-{key}")},
        f"/v1/models/{path}:predict": {"post": _predict(served, sample, "Predict, for people", f"predict-{key}")},
    }
    if sample is not None:
        operation = _operation(f"sample-{key}", tag, "A request that it answers", {sample.content_type: {}}, "404")
        paths[f"/models/{path}/sample"] = {"get": operation}
    return paths


def _v1_status(name: str) -> Json:
    return {f"/v1/models/{name}": {"get": _get(f"status-{name}", name, "Is it ready? (V1)", "object", "404")}}


def _shapes(served: ServedModel) -> dict[str, Json]:
    if not served.ready:
        return {}
    made = (schemas.instances, schemas.predictions, schemas.infer_request, schemas.infer_response)
    return {f"{_key(served)}.{make.__name__}": make(served.signature) for make in made}


def _key(served: ServedModel) -> str:
    return f"{served.name}.{served.version}"


def _predict(served: ServedModel, sample: SampleBody | None, summary: str, operation_id: str) -> Json:
    shown = example_of(served, sample)
    described = {"schema": _ref("schemas", f"{_key(served)}.instances")}
    body: Json = {"application/json": described | _example({"instances": shown.instances} if shown else None)}
    for kind, schema in schemas.raw_bodies(served.signature).items():
        body[kind] = {"schema": schema} | _raw_example(kind, sample)
    answer = {"application/json": {"schema": _ref("schemas", f"{_key(served)}.predictions")}}
    return _posted(_operation(operation_id, served.name, summary, answer, *PREDICT_ERRORS), body)


def _infer(served: ServedModel, sample: SampleBody | None, operation_id: str) -> Json:
    shown = example_of(served, sample)
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {"schema": _ref("schemas", f"{_key(served)}.infer_request")} | _example(_infer_example(shown))
    body = {"application/json": content, "application/octet-stream": binary}
    described = {"schema": _ref("schemas", f"{_key(served)}.infer_response")}
    answer = {"application/json": described, "application/octet-stream": binary}
    operation = _operation(operation_id, served.name, "Infer (Open Inference Protocol)", answer, *PREDICT_ERRORS)
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "bytes of the JSON header, where raw tensors follow it",
        "schema": {"type": "integer", "minimum": 0},
    }
    return _posted(operation | {"parameters": [length]}, body)


def _infer_example(shown: Example | None) -> Json | None:
    return {"inputs": shown.tensors} if shown else None


def _raw_example(kind: str, sample: SampleBody | None) -> Json:
    """A text as it is; an image has its own path, ``/models/NAME/sample``."""
    if sample is None or sample.content_type != kind or not kind.startswith("text/"):
        return {}
    return _example(sample.content.decode(errors="replace"))


# The server


def _server_paths() -> Json:
    def get(path: str, summary: str, kind: str | None, *errors: str) -> Json:
        return {path: {"get": _get(path.strip("/").replace("/", "-"), "server", summary, kind, *errors)}}

    return {
        **get("/livez", "Is the process alive?", None),
        **get("/readyz", "Is it ready to be asked?", None, "503"),
        **get("/ping", "Is it ready to be asked? (SageMaker)", None, "503"),
        **get("/v2/health/live", "Is the process alive?", "object"),
        **get("/v2/health/ready", "Is it ready to be asked?", "object", "503"),
        **get("/v2", "Name, version and extensions", "object"),
        **get("/v2/models/stats", "Counts and times of every model", "object"),
        **get("/v1/models", "Names of the models", "object"),
        **get("/models", "The models, for people", "object"),
        **get("/openapi.json", "This document", "object"),
        "/metrics": {"get": _operation("metrics", "server", "Metrics, for Prometheus", {"text/plain": {}})},
    }


def _repository_paths(served: Sequence[ServedModel]) -> Json:
    only_ready = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    index = _operation("index", "repository", "What is loaded, and what could be", _json("array"), "400")
    index = _posted(index, {"application/json": {"schema": only_ready}}, required=False)
    paths: Json = {"/v2/repository/index": {"post": index}}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    if served:
        name["example"] = served[0].name
    for verb in ("load", "unload"):
        operation = _operation(verb, "repository", f"{verb.capitalize()} a model", _json("object"), "400", "404", "500")
        paths[f"/v2/repository/models/{{name}}/{verb}"] = {"post": operation | {"parameters": [name]}}
    return paths


_OF_ONE: Json = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]}


def _job_paths() -> Json:
    create = _operation("create-job", "jobs", "Run a model over a data set", _json("object"), "400", "404")
    create["responses"]["201"] = create["responses"].pop("200")
    return {
        "/v1/jobs": {
            "post": _posted(create, {"application/json": {"schema": schemas.JOB}}),
            "get": _get("list-jobs", "jobs", "The jobs, newest first", "object"),
        },
        "/v1/jobs/{id}": {
            "get": _get("get-job", "jobs", "State, progress and, when done, the manifest", "object", "404") | _OF_ONE,
            "delete": _get("cancel-job", "jobs", "Cancel; what is committed stays", "object", "404") | _OF_ONE,
        },
    } | _batch_paths()


def _batch_paths() -> Json:
    """As OpenAI has them; an error is an object there."""

    def one(name: str, summary: str, answer: Json | None = None) -> Json:
        return _operation(name, "jobs", summary, answer or _json("object")) | _OF_ONE

    binary = {"type": "string", "format": "binary"}
    form = schemas.object_of({"file": binary, "purpose": {"type": "string", "enum": ["batch"]}}, ["file", "purpose"])
    texts = {key: {"type": "string"} for key in ("input_file_id", "endpoint", "completion_window")}
    upload = _operation("upload-file", "jobs", "Hand in a file of requests (OpenAI)", _json("object"))
    create = _operation("create-batch", "jobs", "Run the requests of a file (OpenAI)", _json("object"))
    return {
        "/v1/files": {
            "post": _posted(upload, {"multipart/form-data": {"schema": form}}),
            "get": _get("list-files", "jobs", "The files (OpenAI)", "object"),
        },
        "/v1/files/{id}": {"get": one("get-file", "A file's facts"), "delete": one("delete-file", "Delete a file")},
        "/v1/files/{id}/content": {"get": one("file-content", "What is in it", {"application/octet-stream": {}})},
        "/v1/batches": {
            "post": _posted(create, {"application/json": {"schema": schemas.object_of(texts, list(texts))}}),
            "get": _get("list-batches", "jobs", "The batches (OpenAI)", "object"),
        },
        "/v1/batches/{id}": {"get": one("get-batch", "A batch's status and its files")},
        "/v1/batches/{id}/cancel": {"post": one("cancel-batch", "Cancel; its answers so far are kept")},
    }


def _intake_paths() -> Json:
    take = _operation(
        "take-in", "intake", "Keep a device's entries, each once", _json("object"), "400", "404", "413", "503"
    )
    body = {"application/json": {"schema": schemas.UPLOAD}}  # may be compressed: content-encoding gzip
    asked: list[Json] = [
        {"name": "device", "in": "query", "schema": {"type": "string"}},
        {"name": "kind", "in": "query", "schema": {"type": "string"}},
        {"name": "after", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}},
    ]
    entries = _get("intake-entries", "intake", "What arrived, in order", "object", "400", "404", "503")
    return {
        "/v1/intake": {
            "post": _posted(take, body),
            "get": _get("intake-devices", "intake", "Devices, counts and last contact", "object", "404", "503"),
        },
        "/v1/intake/entries": {"get": entries | {"parameters": asked}},
    }


# Operations


def _get(operation_id: str, tag: str, summary: str, kind: str | None, *errors: str) -> Json:
    return _operation(operation_id, tag, summary, _json(kind) if kind else None, *errors)


def _operation(operation_id: str, tag: str, summary: str, answer: Json | None, *errors: str) -> Json:
    good = {"description": "OK"} | ({"content": answer} if answer else {})
    responses = {"200": good, **{status: _ref("responses", status) for status in errors}}
    return {"operationId": operation_id, "tags": [tag], "summary": summary, "responses": responses}


def _posted(operation: Json, content: Json, *, required: bool = True) -> Json:
    return operation | {"requestBody": {"required": required, "content": content}}


def _error_responses() -> Json:
    content = {"application/json": {"schema": _ref("schemas", "Error")}}
    retry = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return {
        status: {"description": text, "content": content} | ({"headers": retry} if status in ("429", "503") else {})
        for status, text in ERRORS.items()
    }


def _json(kind: str) -> Json:
    return {"application/json": {"schema": {"type": kind}}}


def _example(value: Any) -> Json:
    return {} if value is None else {"example": value}


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}
