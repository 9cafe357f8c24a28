"""Swagger's page, with files of our own: no third party is asked, so it works on a closed network."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response

from fraud_api.problems import json_response

OPENAPI_PATH: Final = "/openapi.json"
_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
# The page's own inline script starts Swagger; everything else comes from here.
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)


def install(app: FastAPI) -> None:
    """Serve `/docs` and `/openapi.json`."""

    async def page(_request: Request) -> Response:
        response = get_swagger_ui_html(
            openapi_url=OPENAPI_PATH.lstrip("/"),
            title=app.title,
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="docs/favicon.png",
        )
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    async def schema(_request: Request) -> Response:
        return json_response(app.openapi())

    app.add_api_route("/docs", page, include_in_schema=False)
    app.add_api_route(OPENAPI_PATH, schema, include_in_schema=False)
    for name, media_type in _ASSETS.items():
        app.add_api_route(f"/docs/{name}", _asset(name, media_type), include_in_schema=False)


def _asset(name: str, media_type: str):  # type: ignore[no-untyped-def]
    content = files("fastapi_offline").joinpath("static", name).read_bytes()

    async def asset(_request: Request) -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "public, max-age=86400"})

    return asset
