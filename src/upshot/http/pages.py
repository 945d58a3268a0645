"""Pages of the API: Swagger UI and ReDoc, whose scripts come from an installed package; and the assets of the dashboard.

They work without internet.
"""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.staticfiles import StaticFiles

from upshot import dashboard

ASSETS = "/assets/docs"
DOCUMENTATION = ("/docs", "/redoc", ASSETS)
OWN_ASSETS = "/assets/pages"
OWN = ("/dashboard", "/setup", "/shared/", "/sign-in", OWN_ASSETS)

_swagger = get_swagger_ui_html(
    openapi_url="/openapi.json",
    title="Upshot",
    swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
    swagger_css_url=f"{ASSETS}/swagger-ui.css",
    swagger_favicon_url=f"{ASSETS}/favicon.png",
)


def script_sources(page: bytes) -> list[str]:
    """The scripts that stand in a page itself, as a policy allows them (Content Security Policy 3, 2.3.1): by their digests."""
    inline = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    return [f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in inline]


SCRIPTS = " ".join(script_sources(bytes(_swagger.body)))
"""The one script that Swagger UI starts from; ReDoc has none."""


def install(app: FastAPI) -> None:
    """Serve the pages."""
    app.mount(ASSETS, StaticFiles(directory=Path(str(files("fastapi_offline"))) / "static"), name="docs-assets")
    app.mount(OWN_ASSETS, StaticFiles(directory=dashboard.ASSETS), name="assets")

    @app.get("/docs", include_in_schema=False)
    async def swagger() -> Response:
        return _swagger

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> Response:
        return get_redoc_html(
            openapi_url="/openapi.json",
            title="Upshot",
            redoc_js_url=f"{ASSETS}/redoc.standalone.js",
            redoc_favicon_url=f"{ASSETS}/favicon.png",
            with_google_fonts=False,
        )
