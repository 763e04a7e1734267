"""Addresses of the maps of a finished run.

    GET /api/runs/<job id>/map/spots                  x, y of all spots in level-0 pixels
    GET /api/runs/<job id>/map/values?layer=<layer>   one value for each spot
    GET /api/runs/<job id>/map/ids                    the spots' own names, as a JSON list
    GET /api/runs/<job id>/map/slide                  size of the slide and of its tiles, as JSON
    GET /api/runs/<job id>/map/thumbnail              the picture in the result, as JPEG
    GET /api/runs/<job id>/tiles/<level>/<column>_<row>.jpeg

Two runs of one slide at the spots of the first (`app.maps.pairs`):

    GET /api/runs/<job id>/with/<other job id>/map/spots
    GET /api/runs/<job id>/with/<other job id>/map/values?layer=<layer>
    GET /api/runs/<job id>/with/<other job id>/map/ids
    GET /api/runs/<job id>/with/<other job id>/tiles/<level>/<column>_<row>.jpeg

Numbers are float32, little endian, without any head. No part of an address becomes a path: ids
are checked against the runs there are, tiles are whole numbers, layers are read by
`app.maps.layers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.faults import fault_sentence, record_fault
from app.maps.pairs import PairValues, forget_deleted_pairs, open_pair
from app.maps.runs import forget_deleted_runs, open_values
from app.maps.tiles import forget_deleted_files, slide_description, slide_tile, thumbnail_jpeg
from app.maps.values import MapValues
from app.responses import PRIVATE_HEADERS, refusal
from stem_core.errors import JobError, SettingsError, StemError

__all__ = ["MAP_ROUTES"]

# What a finished run holds never changes; whether its slide is there and what was measured may.
_KEPT_HEADERS = {**PRIVATE_HEADERS, "Cache-Control": "private, max-age=3600"}
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
_TILE_NAME = re.compile(r"([0-9]{1,9})_([0-9]{1,9})\.jpeg")


async def _spots(request: Request) -> Response:
    return await _answer(lambda: _numbers(_opened(request).positions()))


async def _values(request: Request) -> Response:
    text = request.query_params.get("layer")
    if text is None:
        return refusal(400, "The address names no layer; add one, such as ?layer=mean:GENE.")

    def numbers() -> Response:
        opened = _opened(request)
        layer = opened.parse(text)
        return _numbers(opened.layer(layer), kept=not layer.from_measured)

    return await _answer(numbers)


def _opened(request: Request) -> MapValues | PairValues:
    """Return the layers of the run that an address names, or of its two runs."""
    job_id, other_id = request.path_params["job_id"], request.path_params.get("other_id")
    return open_values(job_id) if other_id is None else open_pair(job_id, other_id)


async def _ids(request: Request) -> Response:
    job_id = request.path_params["job_id"]
    return await _answer(
        lambda: JSONResponse(list(open_values(job_id).spot_ids), headers=_KEPT_HEADERS)
    )


async def _slide(request: Request) -> Response:
    job_id = request.path_params["job_id"]
    return await _answer(lambda: JSONResponse(slide_description(job_id), headers=PRIVATE_HEADERS))


async def _thumbnail(request: Request) -> Response:
    job_id = request.path_params["job_id"]
    return await _answer(lambda: _picture(thumbnail_jpeg(job_id)))


async def _tile(request: Request) -> Response:
    job_id, level = request.path_params["job_id"], request.path_params["level"]
    name = _TILE_NAME.fullmatch(request.path_params["name"])
    if name is None or not _WHOLE_NUMBER.fullmatch(level):
        return refusal(404, "This is not the address of a tile; it ends in LEVEL/COLUMN_ROW.jpeg.")
    column, row = map(int, name.groups())
    return await _answer(lambda: _picture(slide_tile(job_id, int(level), column, row)))


async def _answer(make: Callable[[], Response]) -> Response:
    """Make a response away from the event loop; an error becomes its sentence."""
    try:
        return await run_in_threadpool(_made, make)
    except JobError as error:
        return refusal(404, str(error))
    except SettingsError as error:
        return refusal(400, str(error))
    except StemError as error:
        return refusal(500, str(error))
    except Exception as error:  # noqa: BLE001 - logged under a reference number
        return refusal(500, fault_sentence(record_fault(error, "a map")))


def _made(make: Callable[[], Response]) -> Response:
    try:
        return make()
    except JobError:
        forget_deleted_runs()
        forget_deleted_pairs()
        forget_deleted_files()
        raise


def _numbers(values: NDArray[np.float32], *, kept: bool = True) -> Response:
    return Response(
        values.astype("<f4", copy=False).tobytes(),
        media_type="application/octet-stream",
        headers=_KEPT_HEADERS if kept else PRIVATE_HEADERS,
    )


def _picture(content: bytes) -> Response:
    return Response(content, media_type="image/jpeg", headers=_KEPT_HEADERS)


MAP_ROUTES = [
    Route("/api/runs/{job_id}/map/spots", _spots, methods=["GET"]),
    Route("/api/runs/{job_id}/map/values", _values, methods=["GET"]),
    Route("/api/runs/{job_id}/map/ids", _ids, methods=["GET"]),
    Route("/api/runs/{job_id}/map/slide", _slide, methods=["GET"]),
    Route("/api/runs/{job_id}/map/thumbnail", _thumbnail, methods=["GET"]),
    Route("/api/runs/{job_id}/tiles/{level}/{name}", _tile, methods=["GET"]),
    Route("/api/runs/{job_id}/with/{other_id}/map/spots", _spots, methods=["GET"]),
    Route("/api/runs/{job_id}/with/{other_id}/map/values", _values, methods=["GET"]),
    Route("/api/runs/{job_id}/with/{other_id}/map/ids", _ids, methods=["GET"]),
    Route("/api/runs/{job_id}/with/{other_id}/tiles/{level}/{name}", _tile, methods=["GET"]),
]
