"""The addresses of the maps: what they give, and what they refuse."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from app import uploads
from app.jobs.model import new_job_id
from app.maps.pyramid import TILE_PX, tile_place
from app.maps.runs import set_measured
from app.maps.tiles import encode_jpeg
from stem_core.slides.reading import open_slide
from tests.app.maps.conftest import GENES, HEIGHT_PX, WIDTH_PX, MadeRun, draw_section

ADDRESSES = (
    "map/spots", "map/values?layer=mean:GNAS", "map/ids", "map/slide", "map/thumbnail",
    "tiles/11/0_0.jpeg",
)  # fmt: skip


def decoded(content: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(content)), dtype=np.float64)


def test_positions_and_values(client: TestClient, run: MadeRun) -> None:
    n = len(run.prediction.spots)
    answer = client.get(f"{run.base}/map/spots")
    assert len(answer.content) == 8 * n
    found = np.frombuffer(answer.content, "<f4").reshape(-1, 2)
    np.testing.assert_array_equal(found[:, 0], run.prediction.spots.x_px.astype(np.float32))
    for place, gene in enumerate(GENES):
        answer = client.get(f"{run.base}/map/values", params={"layer": f"mean:{gene}"})
        assert answer.status_code == 200
        assert len(answer.content) == 4 * n
        found = np.frombuffer(answer.content, "<f4")
        np.testing.assert_array_equal(found, run.prediction.mean[:, place])
    assert answer.headers["cache-control"] == "private, max-age=3600"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "no-store" in client.get(f"{run.base}/map/slide").headers["cache-control"]
    assert client.get(f"{run.base}/map/ids").json() == list(run.prediction.spots.ids)


def test_measured_values_are_not_kept_by_the_browser(client: TestClient, run: MadeRun) -> None:
    set_measured(run.id, run.prediction.mean)
    answer = client.get(f"{run.base}/map/values?layer=error:GNAS")
    assert not np.frombuffer(answer.content, "<f4").any()
    assert answer.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "names no layer"),
        ("?layer=", "no layer ''"),
        ("?layer=gene:GNAS", "no layer 'gene:GNAS'"),
        ("?layer=mean:GNAX", "no gene 'GNAX'; did you mean GNAS?"),
        ("?layer=measured:GNAS", "No measured values"),
        ("?layer=mean:%00%ff%F0%9F%92%A5", "no gene"),
        ("?layer=score:" + ",".join(["G"] * 30_000), "30,000 genes"),
    ],
)
def test_a_bad_layer_is_refused_in_a_sentence(
    client: TestClient, run: MadeRun, query: str, said: str
) -> None:
    answer = client.get(f"{run.base}/map/values{query}")
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert answer.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize("address", ADDRESSES)
def test_unknown_guessed_unfinished_and_deleted_runs(
    client: TestClient, make_run: Callable[..., MadeRun], address: str
) -> None:
    for job_id in (new_job_id(), "x", "0" * 32, "..%2F..%2Fetc", "A" * 32, "a" * 31):
        answer = client.get(f"/api/runs/{job_id}/{address}")
        assert answer.status_code == 404, job_id
    for state in ("queued", "running", "failed", "cancelled"):
        answer = client.get(f"{make_run(state).base}/{address}")
        assert answer.status_code == 404
        assert "no result yet" in answer.json()["error"]
    run = make_run()
    assert client.get(f"{run.base}/{address}").status_code == 200
    run.folder.remove()
    answer = client.get(f"{run.base}/{address}")
    assert answer.status_code == 404
    assert "no such run" in answer.json()["error"]


def test_only_reading_is_offered(client: TestClient, run: MadeRun) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = client.request(method, f"{run.base}/map/spots")
        assert answer.status_code == 405
        assert "access-control-allow-origin" not in answer.headers


def test_a_damaged_result_is_a_sentence(client: TestClient, run: MadeRun) -> None:
    (run.folder.result_dir / "prediction.h5ad").write_bytes(b"nonsense")
    answer = client.get(f"{run.base}/map/spots")
    assert answer.status_code == 500
    assert "damaged" in answer.json()["error"]


def test_full_resolution_tiles_are_the_pixels_of_the_slide(
    client: TestClient, run: MadeRun
) -> None:
    facts = client.get(f"{run.base}/map/slide").json()
    assert facts == {
        "width_px": WIDTH_PX, "height_px": HEIGHT_PX, "mpp": 0.5, "tile_px": 254, "overlap": 1,
        "levels": 12, "tiles": True, "thumbnail": f"{run.base}/map/thumbnail", "note": "",
    }  # fmt: skip
    for column in range(-(-WIDTH_PX // TILE_PX)):
        for row in range(-(-HEIGHT_PX // TILE_PX)):
            answer = client.get(f"{run.base}/tiles/11/{column}_{row}.jpeg")
            assert answer.headers["content-type"] == "image/jpeg"
            left, top = max(0, column * 254 - 1), max(0, row * 254 - 1)
            own = run.picture[top : (row + 1) * 254 + 1, left : (column + 1) * 254 + 1]
            shown = decoded(answer.content)
            assert shown.shape == own.shape
            assert np.abs(shown - own).mean() <= 3


@pytest.mark.parametrize("level", range(12))
def test_every_level_shows_the_whole_slide(client: TestClient, run: MadeRun, level: int) -> None:
    scale = 2 ** (11 - level)
    width, height = -(-WIDTH_PX // scale), -(-HEIGHT_PX // scale)
    padded = np.full((height * scale, width * scale, 3), 255.0)
    padded[:HEIGHT_PX, :WIDTH_PX] = run.picture
    wanted = padded.reshape(height, scale, width, scale, 3).mean(axis=(1, 3))
    answer = client.get(f"{run.base}/tiles/{level}/0_0.jpeg")
    shown = decoded(answer.content)
    assert shown.shape == (min(height, 255), min(width, 255), 3)
    wanted = wanted[: shown.shape[0], : shown.shape[1]]
    as_jpeg = decoded(encode_jpeg(np.rint(wanted).astype(np.uint8)))  # its own loss does not matter
    assert np.abs(shown - as_jpeg).mean() <= 2


def test_plain_images_have_tiles_too(client: TestClient, make_run: Callable[..., MadeRun]) -> None:
    picture, out = draw_section(700, 400), io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    run = make_run(name="case.png", content=out.getvalue(), mpp=0.5)
    assert client.get(f"{run.base}/map/slide").json()["levels"] == 11
    shown = decoded(client.get(f"{run.base}/tiles/10/2_1.jpeg").content)
    assert np.abs(shown - picture[253:400, 507:700]).mean() <= 3


@pytest.mark.slow
def test_the_sample_slide(
    client: TestClient,
    make_run: Callable[..., MadeRun],
    home: Path,
    give_sample: Callable[..., None],
) -> None:
    give_sample(home)
    upload_id = uploads.register_sample()
    run = make_run(upload_id=upload_id)
    with open_slide(uploads.upload_path(upload_id)) as slide:
        for column, row in ((0, 0), (7, 7), (6, 4), (16, 5)):
            tile = tile_place(slide.width_px, slide.height_px, 12, column, row)
            own = slide.read_box(
                tile.x_px, tile.y_px, tile.width_px, tile.height_px, tile.width_px, tile.height_px
            )
            shown = decoded(client.get(f"{run.base}/tiles/12/{column}_{row}.jpeg").content)
            assert np.abs(shown - own).mean() <= 3


def test_a_scanned_slide(
    client: TestClient, make_run: Callable[..., MadeRun], real_data: Path
) -> None:
    path = real_data / "slides" / "CMU-1-Small-Region.svs"
    run = make_run(name=path.name, content=path.read_bytes())
    with open_slide(path) as slide:
        for column, row in ((4, 5), (2, 2), (5, 8)):
            tile = tile_place(slide.width_px, slide.height_px, 12, column, row)
            own = slide.read_box(
                tile.x_px, tile.y_px, tile.width_px, tile.height_px, tile.width_px, tile.height_px
            )
            shown = decoded(client.get(f"{run.base}/tiles/12/{column}_{row}.jpeg").content)
            assert np.abs(shown - own).mean() <= 3


@pytest.mark.parametrize(
    "tile",
    [
        "12/0_0.jpeg", "11/6_0.jpeg", "11/0_5.jpeg", "0/1_0.jpeg", "999999999/0_0.jpeg",
        "11/999999999_0.jpeg", f"11/{'9' * 5000}_0.jpeg", f"{'9' * 5000}/0_0.jpeg", "-1/0_0.jpeg",
        "11/-1_0.jpeg", "11/0_0.png", "11/0_0.jpeg.jpeg", "11/0.jpeg", "11/%D9%A1_0.jpeg",
        "11/..%2F0_0.jpeg", "x/0_0.jpeg", "11/0_0.jpeg%0A",
    ],
)  # fmt: skip
def test_there_are_no_other_tiles(client: TestClient, run: MadeRun, tile: str) -> None:
    assert client.get(f"{run.base}/tiles/{tile}").status_code == 404


def test_without_its_slide_a_run_shows_the_picture_of_its_result(
    client: TestClient, run: MadeRun
) -> None:
    assert client.get(f"{run.base}/tiles/11/0_0.jpeg").status_code == 200
    uploads.remove_upload(run.folder.read_request().upload_id)
    facts = client.get(f"{run.base}/map/slide").json()
    assert facts["tiles"] is False
    assert "no longer there" in facts["note"]
    assert (facts["width_px"], facts["height_px"]) == (WIDTH_PX, HEIGHT_PX)
    assert client.get(f"{run.base}/tiles/11/0_0.jpeg").status_code == 404
    answer = client.get(facts["thumbnail"])
    assert answer.headers["content-type"] == "image/jpeg"
    assert np.abs(decoded(answer.content) - run.prediction.thumbnail).mean() <= 3
    record = run.folder.result_dir / "run.json"
    record.write_text("{}", encoding="utf-8")  # a result of an earlier version
    facts = client.get(f"{run.base}/map/slide").json()
    assert (facts["width_px"], facts["height_px"]) == (WIDTH_PX, HEIGHT_PX)


def test_another_slide_under_the_name_is_not_shown(client: TestClient, run: MadeRun) -> None:
    picture = Image.fromarray(run.picture).rotate(180)
    picture.save(run.slide_file, "TIFF")
    facts = client.get(f"{run.base}/map/slide").json()
    assert facts["tiles"] is False
    assert "changed after this run" in facts["note"]
    assert client.get(f"{run.base}/tiles/11/0_0.jpeg").status_code == 404


def test_a_large_file_without_smaller_copies_is_shown_from_the_picture(
    client: TestClient, run: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = decoded(client.get(f"{run.base}/tiles/8/0_0.jpeg").content)
    record = json.loads((run.folder.result_dir / "run.json").read_text(encoding="utf-8"))
    del record["slide"]["fingerprint"]
    (run.folder.result_dir / "run.json").write_text(json.dumps(record), encoding="utf-8")
    tifffile.imwrite(
        run.slide_file, run.picture, photometric="rgb", tile=(128, 128), compression="zlib"
    )
    monkeypatch.setattr("app.maps.tiles._MOST_READ_PX", 10_000)
    quick = decoded(client.get(f"{run.base}/tiles/8/0_0.jpeg").content)
    assert quick.shape == whole.shape
    assert 0 < np.abs(quick - whole).mean() <= 6


def test_a_slide_that_is_damaged_in_its_middle_does_not_end_the_server(
    client: TestClient, run: MadeRun
) -> None:
    content = bytearray(run.slide_file.read_bytes())
    assert len(content) > 3 << 20  # beyond what the fingerprint sees
    middle = slice(1 << 20, len(content) - (1 << 20))
    content[middle] = bytes(len(content[middle]))
    run.slide_file.write_bytes(content)
    asked = [f"{run.base}/tiles/11/{column}_{row}.jpeg" for row in range(5) for column in range(6)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client.get, asked * 2))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < len(answers)
    assert all(answer.status_code == 500 for answer in refused)
    assert all("damaged or incomplete" in answer.json()["error"] for answer in refused)


def test_many_ask_at_once(client: TestClient, make_run: Callable[..., MadeRun]) -> None:
    runs = [make_run() for _ in range(6)]  # more than are kept open
    asked = [
        f"{run.base}/{address}" for run in runs for address in (*ADDRESSES, "tiles/9/1_0.jpeg")
    ] * 3
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status_code for answer in pool.map(client.get, asked)} == {200}
