"""The regions of the Maps page: kept, changed, shown, compared; and what goes wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.maps.regions import keep_regions, kept_regions
from app.state import job_queue
from stem_core.analysis.region_files import MAX_REGIONS, write_regions
from stem_core.analysis.regions import Region

from .conftest import GENES, HEIGHT_PX, WIDTH_PX, MadeRun
from .page import MAIN, charts, faults, open_maps, sound, words

LEFT = np.array([(0, 0), (600, 0), (600, HEIGHT_PX), (0, HEIGHT_PX)], dtype=float)
RIGHT = LEFT + np.array([800.0, 0.0])
NOWHERE = np.array([(1, 1), (2, 1), (2, 2)], dtype=float)


@pytest.fixture
def regions(run: MadeRun) -> tuple[Region, ...]:
    made = (Region("Left", (LEFT,)), Region("Right", (RIGHT,), colour="#e66101"))
    keep_regions(run.id, made)
    return made


def draw(at: AppTest, run: MadeRun, ring: np.ndarray, turn: int = 1) -> AppTest:
    told = {"base": run.base, "kind": "lasso", "points": ring.tolist(), "turn": turn}
    at.session_state["maps"] = {"drawn": told}
    return sound(at.run())


def test_regions_are_renamed_recoloured_combined_and_deleted(
    run: MadeRun, regions: tuple[Region, ...]
) -> None:
    at = open_maps(run)
    at.text_input(key="name_0_Left_#377eb8").set_value("Tumour <b>")
    sound(at.run())
    at.color_picker(key="colour_1_Right_#e66101").set_value("#112233")
    sound(at.run())
    kept = kept_regions(run.id)
    assert [(r.name, r.colour) for r in kept] == [("Tumour <b>", "#377eb8"), ("Right", "#112233")]
    at.multiselect(key="combine_regions").set_value([0, 1])
    sound(at.run())
    at.button(key="combine").click()
    sound(at.run())
    [one] = kept_regions(run.id)
    assert one.name == "Tumour <b>" and len(one.polygons) == 2
    at.button(key="delete_0_Tumour <b>_#377eb8").click()
    sound(at.run())
    assert kept_regions(run.id) == ()


def test_an_empty_region_is_said_and_left_out(run: MadeRun) -> None:
    keep_regions(run.id, (Region("Nothing", (NOWHERE,)),))
    at = open_maps(run)
    assert "No spot has its centre inside" in words(at)
    assert "No spot lies inside any region" in words(at) and not charts(at)
    keep_regions(run.id, (Region("Nothing", (NOWHERE,)), Region("Left", (LEFT,))))
    at = sound(at.run())
    [table] = [t.value for t in at.dataframe if "Region" in t.value]
    assert list(table["Region"]) == ["Left"]
    at.segmented_control(key="regions_part").set_value("differences")
    sound(at.run())
    at.selectbox(key="compare_first").select("1 · Nothing")
    at.button(key="compare").click()
    sound(at.run())
    assert "The first region holds no spot" in faults(at)


def test_violins_and_heat_map_have_the_numbers(run: MadeRun, regions: tuple[Region, ...]) -> None:
    at = open_maps(run, f"mean:{GENES[0]};std:{GENES[1]}")
    prediction = run.prediction
    inside = regions[0].inside(prediction.spots.x_px, prediction.spots.y_px)
    [table] = [t.value for t in at.dataframe if "Region" in t.value]
    assert len(table) == 4
    assert table["Mean"][0] == pytest.approx(prediction.mean[inside, 0].mean(), abs=1e-5)
    [violins] = charts(at)
    assert f"n = {inside.sum()}" in violins["layout"]["xaxis"]["ticktext"][0]
    assert "log2(1 + count)" in violins["layout"]["yaxis"]["title"]["text"]
    at.segmented_control(key="regions_part").set_value("heat")
    sound(at.run())
    [heat] = charts(at)
    assert set(heat["data"][0]["y"]) == set(GENES)
    at.segmented_control(key="heat_genes").set_value("list")
    sound(at.run())
    at.text_area(key="heat_list").set_value(" ".join([f"X{n}" for n in range(49_998)] + ["erbb2"]))
    sound(at.run())
    [heat] = charts(at)
    assert heat["data"][0]["y"] == ["ERBB2"]
    assert "1 of 49999 genes are in the panel" in words(at)
    at.text_area(key="heat_list").set_value(" ".join(f"X{n}" for n in range(50_001)))
    sound(at.run())
    assert "at most 50,000 are read" in faults(at) and not charts(at)


def test_differences_say_their_floor_and_name_every_gene(
    run: MadeRun, regions: tuple[Region, ...]
) -> None:
    at = open_maps(run, f"mean:{GENES[0]};std:{GENES[1]}")
    at.segmented_control(key="regions_part").set_value("differences")
    sound(at.run())
    at.button(key="compare").click()
    sound(at.run())
    [table] = [t.value for t in at.dataframe if "p_adjusted" in t.value]
    assert len(table) == len(GENES) and "never below 0.001" in words(at)
    [volcano] = charts(at)
    named = [point[0] for trace in volcano["data"] for point in trace.get("customdata", [])]
    assert sorted(named) == sorted(GENES)
    assert volcano["layout"]["yaxis"]["title"]["text"] == "−log10 of adjusted p"


def test_broken_files_of_regions_give_one_sentence_and_change_nothing(
    run: MadeRun, regions: tuple[Region, ...]
) -> None:
    at = open_maps(run)
    far = write_regions([Region("Far", (LEFT + 1e6,))])
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}
    for content, said in (
        (b"\xff\xfe{", "is not JSON"),
        (b'{"type": "FeatureCollection", "features": [{}]}', "geometry of type None"),
        (json.dumps(point).encode(), "Polygon"),
        (far.encode(), "outside the slide"),
        (write_regions([Region("R", (LEFT,))] * (MAX_REGIONS + 1)).encode(), "at most 1,000"),
    ):
        at.file_uploader[0].set_value(("a.geojson", content, "application/json"))
        sound(at.run())
        assert said in faults(at), faults(at)
        assert len(kept_regions(run.id)) == 2
    many = write_regions([Region("R", (LEFT,))] * (MAX_REGIONS - 1))
    at.file_uploader[0].set_value(("a.geojson", many.encode(), "application/json"))
    sound(at.run())
    assert "keeps up to 1,000 regions" in faults(at) and len(kept_regions(run.id)) == 2


def test_what_cannot_be_read_is_said_and_stays(run: MadeRun) -> None:
    at = open_maps(run)
    file = run.folder.path / "regions.geojson"
    file.write_text('{"type": "FeatureCollection", "features": [{"broken": ')
    sound(at.run())
    assert "cannot be shown" in faults(at) and "Their file is not JSON" in faults(at)
    draw(at, run, LEFT)
    assert [region.name for region in kept_regions(run.id)] == ["Region 1"]
    assert "broken" in (run.folder.path / "regions-unreadable-1.geojson").read_text()


def test_a_drawing_beside_the_slide_does_not_cost_the_others(
    run: MadeRun, regions: tuple[Region, ...]
) -> None:
    at = open_maps(run)
    draw(at, run, LEFT + 2 * WIDTH_PX)
    assert "beside the slide" in faults(at)
    assert [region.name for region in kept_regions(run.id)] == ["Left", "Right"]


def test_what_cannot_be_kept_stays_in_the_page(run: MadeRun, regions: tuple[Region, ...]) -> None:
    at = open_maps(run)
    block = run.folder.path / "regions.geojson"
    block.unlink()
    block.mkdir()  # nothing can be written there
    draw(at, run, LEFT)
    assert "cannot be written" in faults(at) and "in this page" in faults(at)
    assert any(field.value == "Region 1" for field in at.text_input)
    block.rmdir()
    at.button(key="regions_again").click()
    sound(at.run())
    assert [region.name for region in kept_regions(run.id)] == ["Left", "Right", "Region 1"]
    assert not faults(at)


def test_a_run_deleted_meanwhile_gives_a_sentence_and_the_regions(
    run: MadeRun, regions: tuple[Region, ...]
) -> None:
    at = open_maps(run)
    run.folder.remove()
    draw(at, run, LEFT)
    assert "There is no such run" in faults(at).replace("\\", "")
    [warning] = at.warning
    assert "3 regions" in warning.value.replace("\u202f", " ")
    assert [link.proto.label for link in at.get("page_link")][-1] == "All runs"


@pytest.mark.parametrize("run_id", ["1" * 32, "../../etc/passwd"])
def test_unknown_and_guessed_runs_give_one_sentence(run_id: str) -> None:
    job_queue.clear()
    at = AppTest.from_file(str(MAIN), default_timeout=60).run()
    at.switch_page("views/maps.py")
    at.query_params["run"] = run_id
    sound(at.run())
    assert len(at.error) == 1 and not at.warning
    assert not at.dataframe and not at.file_uploader
