"""Health, version and metrics: the small pages, as a FastAPI application. Imported when it is needed: see :mod:`.health`."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import orjson
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from starlette.exceptions import HTTPException

import kubeling
from kubeling.api import errors
from kubeling.apiserver import documents, health, metrics
from kubeling.apiserver.context import Context


def make(context: Context) -> FastAPI:
    """The application."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    _version(app)
    _health(app, context)
    _metrics(app, context)
    app.include_router(documents.router(context))
    app.add_exception_handler(HTTPException, _http_error)
    return app


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    """What the framework refuses, as a Status."""
    code = error.status_code if isinstance(error, HTTPException) else 500
    found = errors.no_such_path() if code == 404 else errors.failure(code, "", str(getattr(error, "detail", error)))
    if code == 405:
        found = errors.failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return Response(orjson.dumps(found.status), code, media_type="application/json")


def _version(app: FastAPI) -> None:
    text = kubeling.KUBERNETES_VERSION
    major, minor = text.lstrip("v").split(".")[:2]
    body = orjson.dumps(
        {
            "major": major,
            "minor": minor,
            "gitVersion": text,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": f"python{platform.python_version()}",
            "compiler": platform.python_implementation(),
            "platform": f"linux/{'amd64' if platform.machine() == 'x86_64' else 'arm64'}",
        },
        option=orjson.OPT_INDENT_2,
    )

    @app.get("/version")
    @app.get("/version/", include_in_schema=False)
    async def version() -> Response:
        return Response(body, media_type="application/json")


def _health(app: FastAPI, context: Context) -> None:
    def page(path: str, checks: Mapping[str, health.Check | None]) -> None:
        async def show(request: HttpRequest) -> Response:
            query = request.query_params
            healthy, text = await health.report(context, path, excluded=set(query.getlist("exclude")), verbose="verbose" in query)
            return Response(text, 200 if healthy else 500, media_type="text/plain")

        async def show_one(name: str) -> Response:
            if name not in checks:
                raise HTTPException(404)
            check = checks[name]
            problem = await check(context) if check else None
            return Response("ok" if problem is None else f"internal server error: {problem}\n", 200 if problem is None else 500)

        app.add_api_route(path, show, methods=["GET", "HEAD"], response_class=Response)
        app.add_api_route(path + "/{name:path}", show_one, methods=["GET", "HEAD"], response_class=Response)

    for each, checks in health.CHECKS.items():
        page(each, checks)


def _metrics(app: FastAPI, context: Context) -> None:
    @app.get("/metrics")
    async def show() -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        from kubeling.apiserver.flowcontrol import metrics as flowcontrol

        for store in context.kinds.stores():
            if store.cache.active:
                metrics.CACHE_OBJECTS.labels(store.resource.qualified).set(len(store.cache))
        return Response(generate_latest() + flowcontrol.text(context.gate), media_type=CONTENT_TYPE_LATEST)
