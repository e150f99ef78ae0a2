"""The page as a part of the application: its routes, its files, and Gradio at `/`."""

from pathlib import Path
from typing import TYPE_CHECKING

from clapedge.errors import MissingExtraError, UsageError
from clapedge.serve.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

STATIC = Path(__file__).parent / "static"

BEGIN = """
const here = (path) => new URL(path, document.baseURI);
const read = async (response) => {
  const content = await response.json();
  if (!response.ok) throw new Error(content.detail);
  return content;
};
Promise.all([import(here("page/static/page.js")), fetch(here("page/facts")).then(read)])
  .then(([page, facts]) => page.begin(element, facts))
  .catch((error) => element.replaceChildren(error.message));
"""

HEAD = '<link rel="stylesheet" href="page/static/page.css">'

OPEN_PATHS = frozenset(
    {"/", "/config", "/theme.css", "/favicon.ico", "/gradio_api/theme.css", "/gradio_api/startup-events"}
)
OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/")
"""The paths of Gradio that the page needs, read only."""


class ReadOnly:
    """Gradio without its own routes for uploads, files and other hosts.

    The page uses the HTTP interface, which has limits.
    """

    def __init__(self, app: "ASGIApp") -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve what the page loads; everything else is not found."""
        from starlette.exceptions import HTTPException

        if scope["type"] in {"http", "websocket"}:
            path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
            known = path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)
            if not known or scope.get("method") not in {"GET", "HEAD"}:
                raise HTTPException(404)
        await self._app(scope, receive, send)


def mount(app: "FastAPI", service: Service) -> "FastAPI":
    """Mount the page at `/`; call it last, since it serves every path without a route.

    Args:
        app: the application, with all its other routes.
        service: its service.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    try:
        import gradio
        from fastapi.staticfiles import StaticFiles
        from starlette.routing import Mount
    except ImportError as error:
        raise MissingExtraError("the page", "web") from error
    from clapedge.serve.page.routes import CLIPS, router

    app.state.service = service
    app.include_router(router)
    app.mount("/page/clips", StaticFiles(directory=CLIPS))
    app.mount("/page/static", StaticFiles(directory=STATIC))
    with gradio.Blocks(title="clapedge", analytics_enabled=False) as blocks:
        gradio.HTML(
            html_template=(STATIC / "page.html").read_text(encoding="utf-8"), js_on_load=BEGIN, apply_default_css=False
        )
    theme = gradio.themes.Base(font=["system-ui"], font_mono=["monospace"])  # Gradio's own fonts are on another host
    mounted: FastAPI = gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        theme=theme,
        head=HEAD,
        favicon_path=str(STATIC / "icon.svg"),
    )
    last = mounted.router.routes[-1]
    if not isinstance(last, Mount):
        raise UsageError(f"Gradio {gradio.__version__} is not supported; install 'gradio>=6,<7'")
    last.app = ReadOnly(last.app)
    return mounted
