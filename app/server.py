"""The ASGI app: Streamlit's pages, and two routes for files too big to pass through a page.

    PUT /api/uploads?name=<file name>     the raw file as the body, straight to disk
    GET /api/runs/<job id>/<file>         a file of a finished run's result, or result.zip
    GET /api/runs/<job id>/map/…, /tiles/…   what its maps are drawn from (`app.maps.routes`)

`stem app` serves it; `streamlit run app/server.py` and `uvicorn app.server:app` do as well (without
the worker).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from streamlit import config

from app import hosts, paths
from app.faults import LOG, fault_sentence, record_fault
from app.jobs.folder import find_folder
from app.maps.routes import MAP_ROUTES
from app.responses import PRIVATE_HEADERS, refusal
from app.uploads import UploadWriter, max_upload_bytes
from stem_core.errors import JobError, OutputError, StemError
from stem_core.prediction.export import FILE_NAMES, zip_prediction

__all__ = ["app", "upload_address"]

ARCHIVE_NAME = "result.zip"
_WRITE_BYTES = 4 << 20


def upload_address() -> str:
    """Return the path that takes uploads: PUT, the file as the body, `?name=` its name."""
    return "/api/uploads"


async def _take_upload(request: Request) -> Response:
    if not hosts.from_same_origin(request.headers):
        return refusal(403, "Uploads are taken from this app's own pages only.")
    try:
        limit = max_upload_bytes()
        stated = int(request.headers.get("content-length", "0"))
        if stated > limit:
            return refusal(413, f"The file is larger than the {limit / 1e9:g} GB taken here.")
        if stated > shutil.disk_usage(paths.uploads_dir()).free:
            return refusal(507, "The file does not fit on the server's disk; free space there.")
        with UploadWriter(request.query_params.get("name", "")) as writer:
            held = bytearray()
            async for piece in request.stream():
                held += piece
                if len(held) >= _WRITE_BYTES:
                    await run_in_threadpool(writer.write, bytes(held))
                    held.clear()
            await run_in_threadpool(writer.write, bytes(held))
            upload = await run_in_threadpool(writer.finish)
    except ClientDisconnect:
        LOG.info("an upload was broken off")
        return Response(status_code=400)
    except OutputError as error:
        return refusal(507, str(error))
    except (StemError, ValueError) as error:
        return refusal(400, str(error))
    return JSONResponse(
        {"upload_id": upload.id, "size_bytes": upload.size_bytes, "sha256": upload.sha256},
        status_code=201,
    )


async def _give_file(request: Request) -> Response:
    name = request.path_params["name"]
    if name != ARCHIVE_NAME and name not in FILE_NAMES:
        return refusal(404, "A result has no such file.")
    try:
        path = await run_in_threadpool(_result_file, request.path_params["job_id"], name)
    except JobError as error:
        return refusal(404, str(error))
    except StemError as error:
        return refusal(500, str(error))
    except Exception as error:  # noqa: BLE001 - logged under a reference number
        return refusal(500, fault_sentence(record_fault(error, "a download")))
    shown = f"stem-{path.parent.name[:8]}.zip" if name == ARCHIVE_NAME else name
    return FileResponse(path, filename=shown, headers=PRIVATE_HEADERS)


def _result_file(job_id: str, name: str) -> Path:
    """Return the file of a finished run; the archive is packed when it is first asked for."""
    folder = find_folder(job_id)
    if folder.read_progress().state != "done":
        msg = "This run has no result yet; wait until it is done."
        raise JobError(msg)
    if name != ARCHIVE_NAME:
        return folder.result_dir / name
    if not folder.archive_file.is_file():
        zip_prediction(folder.result_dir, folder.archive_file)
    return folder.archive_file


def _show_fault(error: Exception) -> bool:
    """Show a page's error as one sentence; nothing of an unknown one but its number."""
    if isinstance(error, StemError):
        st.error(str(error))
    else:
        st.error(fault_sentence(record_fault(error, "showing a page")))
    return True


app = st.App(
    Path(__file__).resolve().with_name("main.py"),
    routes=[
        Route(upload_address(), _take_upload, methods=["PUT"]),
        Route("/api/runs/{job_id}/{name}", _give_file, methods=["GET"]),
        *MAP_ROUTES,
    ],
    middleware=[
        Middleware(
            TrustedHostMiddleware,
            allowed_hosts=hosts.allowed_hosts(config.get_option("server.address")),
            www_redirect=False,
        ),
        Middleware(hosts.OwnPagesOnly),
    ],
    on_script_error=_show_fault,
)
