"""OpenAPI documents and the keys of service-account tokens: the pages that other programs read."""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from kubeling.api import openapi
from kubeling.apiserver.context import Context
from kubeling.apiserver.openapi import Documents, Page

_FOREVER = {"cache-control": "public, immutable", "expires": "Thu, 31 Dec 2037 23:55:55 GMT"}


def router(context: Context) -> APIRouter:
    """The routes."""
    found = APIRouter()
    _openapi(found, context)
    _keys(found, context)
    return found


def _openapi(router: APIRouter, context: Context) -> None:
    documents = Documents(context)

    @router.get("/openapi/v2")
    async def version_2(request: HttpRequest) -> Response:
        protobuf = _wants_protobuf(request.headers.get("accept", ""))
        await context.definitions.refresh()
        found = await documents.version_2(protobuf=protobuf)
        return _tagged(request, found, openapi.V2_CONTENT_TYPE if protobuf else "application/json")

    @router.get("/openapi/v3")
    async def version_3(request: HttpRequest) -> Response:
        await context.definitions.refresh()
        return _tagged(request, documents.index())

    @router.get("/openapi/v3/{path:path}")
    async def group_version(request: HttpRequest, path: str) -> Response:
        await context.definitions.refresh()
        found = documents.at(path)
        if found is None:
            raise HTTPException(404)
        answer = _tagged(request, found)
        if "hash" in request.query_params:
            answer.headers.update(_FOREVER)
        return answer


def _wants_protobuf(accept: str) -> bool:
    """Whether protobuf comes before JSON in an Accept header. Without a word about either it is JSON, as upstream answers browsers and curl."""
    for each in accept.split(","):
        kind = each.partition(";")[0].strip().lower()
        if kind.startswith("application/com.github.proto-openapi.spec.v2"):
            return True
        if kind in ("application/json", "application/*", "*/*"):
            return False
    return False


def _tagged(request: HttpRequest, page: Page, media_type: str = "application/json") -> Response:
    headers = {"etag": page.etag, "vary": "Accept"}
    if request.headers.get("if-none-match") == page.etag:
        return Response(b"", 304, headers)
    return Response(page.body, 200, headers, media_type=media_type)


_AN_HOUR = {"cache-control": "public, max-age=3600"}


def _keys(router: APIRouter, context: Context) -> None:
    """OIDC discovery: how others verify our tokens."""
    issuer = context.issuer
    if issuer is None:
        return
    keys = "/openid/v1/jwks"
    algorithms = sorted({each["alg"] for each in issuer.key_set()["keys"]}) if issuer.can_sign else []

    @router.get("/.well-known/openid-configuration")
    async def configuration() -> Response:
        host = context.config.advertise_address or context.config.bind_address
        server = f"https://{f'[{host}]' if ':' in host else host}:{context.config.secure_port}"
        found = {
            "issuer": issuer.issuer,
            "jwks_uri": context.config.auth.jwks_uri or f"{server}{keys}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        }
        return Response(orjson.dumps(found), headers=_AN_HOUR, media_type="application/json")

    @router.get(keys)
    async def key_set() -> Response:
        return Response(orjson.dumps(issuer.key_set()), headers=_AN_HOUR, media_type="application/jwk-set+json")
