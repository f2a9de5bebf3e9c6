"""The page at `/`: plain files beside this one, as they are. Nothing in them is secret, so they need no key."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).with_name("page")
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # keep it, and ask whether it is still the one
}


class File(NamedTuple):
    """A file of the page."""

    content: bytes
    kind: str
    etag: str


def page_files(folder: Path = FOLDER) -> Mapping[str, File]:
    """The files of the page by path: `index.html` is `/`, others are under their names."""
    files = {}
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        path = "/" if file.name == "index.html" else f"/{file.name}"
        files[path] = File(content, KINDS[file.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return files


FILES = page_files()
router = APIRouter()


async def page(request: Request) -> Response:
    """A file of the page; 304 if the browser has it."""
    file = FILES[request.scope["route"].path]
    headers = {**HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.kind)


for path in FILES:
    router.add_api_route(path, page, methods=["GET", "HEAD"], include_in_schema=False)
