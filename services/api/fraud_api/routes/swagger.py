"""Swagger UI with bundled files: it needs no third party, so it works on a closed network."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response

from fraud_api.access import PUBLIC
from fraud_api.problems import json_response

router = APIRouter(dependencies=[PUBLIC], include_in_schema=False)

_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
# The page's inline script starts Swagger; everything else is served by this API.
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    return json_response(request.app.openapi())


@router.get("/docs")
async def page(request: Request) -> Response:
    response = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=request.app.title,
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon.png",
    )
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@router.get("/docs/{name}")
def asset(name: str) -> Response:
    if name not in _ASSETS:
        raise HTTPException(404)
    content = files("fastapi_offline").joinpath("static", name).read_bytes()
    return Response(content, media_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=86400"})
