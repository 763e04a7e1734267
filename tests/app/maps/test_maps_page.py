"""The Maps page without a browser: finding genes, lists, trust, gene sets, greyed spots."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.components.trust import gene_trust, trust_of
from app.state import job_queue
from stem_core.prediction.export import write_prediction

from .conftest import GENES, MadeRun

MAIN = Path(__file__).resolve().parents[3] / "app" / "main.py"
MODEL = "mouse-olfactory-bulb"


@pytest.fixture
def shown(make_run: Callable[..., MadeRun]) -> MadeRun:
    """A finished run of a model that is here, with what is known of its genes."""
    job_queue.clear()
    run = make_run()
    table = pd.DataFrame(
        {
            "held_out_pcc": [0.62, 0.35, 0.1, np.nan, 0.7, 0.55, 0.2],
            "held_out_pcc_low": [0.55, 0.3, 0.1, np.nan, 0.6, 0.5, 0.1],
            "held_out_pcc_high": [0.68, 0.4, 0.1, np.nan, 0.8, 0.6, 0.3],
            "held_out_rvd": [0.43, 0.5, 0.9, np.nan, 0.2, 0.3, 0.8],
            "held_out_folds": [3, 2, 1, np.nan, 3, 3, 3],
        },
        index=pd.Index(GENES, name="symbol"),
    )
    ids = ("ENSG00000087460.24", "ENSG00000141736", "", "", "", "", "")
    prediction = replace(run.prediction, ensembl=ids, gene_table=table)
    write_prediction(prediction, run.folder.result_dir, overwrite=True)
    request = run.folder.path / "request.json"
    request.write_text(json.dumps({**json.loads(request.read_text()), "model": MODEL}))
    return replace(run, prediction=prediction)


def opened(run: MadeRun, **query: str) -> AppTest:
    at = AppTest.from_file(str(MAIN), default_timeout=60).run()
    at.switch_page("views/maps.py")
    for name, value in {"run": run.id, **query}.items():
        at.query_params[name] = value
    return sound(at.run())


def sound(at: AppTest) -> AppTest:
    assert not at.exception, at.exception[0].message
    return at


def maps(at: AppTest) -> str:
    value = at.query_params["maps"]
    return value if isinstance(value, str) else value[0]


def typed(at: AppTest, text: str, key: str = "gene_0") -> AppTest:
    """Type into the search box and press Enter."""
    box = at.selectbox(key=key)
    box.options = [*box.options, text]  # what is not listed cannot be chosen here otherwise
    return sound(box.set_value(text).run())


def words(at: AppTest) -> str:
    parts = [*at.markdown, *at.caption, *at.error, *at.warning]
    return " ".join(str(part.value) for part in parts).replace("\\", "")


def panels(at: AppTest) -> list[dict[str, Any]]:
    """What the viewer was given."""
    [viewer] = at.get("bidi_component")
    return list(json.loads(viewer.proto.json or viewer.proto.mixed.json)["panels"])


def test_genes_are_found_by_symbol_and_id_in_any_case(shown: MadeRun) -> None:
    at = opened(shown)
    box = at.selectbox(key="gene_0")
    assert box.value == "AC1(2)/b.3_x"  # the best predicted one
    assert "GNAS · ENSG00000087460.24" in box.options
    for text, gene in (
        ("ensg00000087460.7", "GNAS"), ("a:b", "A:B"), ("hla-drb1", "HLA-DRB1"), ("7s", "7SK"),
    ):  # fmt: skip
        assert maps(typed(at, text)) == f"mean:{gene}"
        assert at.selectbox(key="gene_0").value == gene


def test_a_gene_that_the_panel_lacks_is_told_with_what_can_be_done(shown: MadeRun) -> None:
    at = typed(opened(shown, maps="mean:GNAS"), "ERB2")
    assert "**ERB2** is not in this model's panel" in words(at)
    assert maps(at) == "mean:GNAS"  # nothing lost
    sound(at.button(key="close_gene_0_ERBB2").click().run())
    assert maps(at) == "mean:ERBB2" and "is not in this" not in words(at)
    typed(at, "krt86")
    assert (
        "Human breast cancer, HER2-positive (ST)** has it (breast cancer, Homo sapiens)"
        in words(at)
    )
    sound(at.button(key="predict_her2st-breast").click().run())
    assert at.session_state["model"] == "her2st-breast"


def test_the_ratio_of_two_genes_can_be_swapped(shown: MadeRun) -> None:
    at = opened(shown, maps="std:GNAS")
    sound(at.selectbox(key="kind_0").set_value("difference").run())
    first, second = maps(at).split(":")[1:]
    assert first == "GNAS"
    typed(at, "gnas", key="other_0")
    assert maps(at) == f"difference:{second}:GNAS"
    assert panels(at)[0]["unit"] == "log2 ratio"


def test_lists_rank_as_numpy_does(shown: MadeRun) -> None:
    at = opened(shown, maps="mean:ERBB2")
    mean = shown.prediction.mean.astype(float)
    table = at.sidebar.dataframe[0].value
    assert list(table["Gene"])[:3] == ["AC1(2)/b.3_x", "GNAS", "A:B"] and len(table) == 6
    assert list(table["Trust"])[1] == "● good" and list(table["Trust"])[-1] == "○ weak"
    sound(at.selectbox(key="gene_list").set_value("variable").run())
    table = at.sidebar.dataframe[0].value
    order = np.argsort(-mean.var(0, ddof=1))
    assert list(table["Gene"]) == [GENES[column] for column in order]
    np.testing.assert_allclose(table["Variance"], mean.var(0, ddof=1)[order], rtol=1e-5)
    for kind, sign in (("rising", -1), ("falling", 1)):
        sound(at.selectbox(key="gene_list").set_value(kind).run())
        table = at.sidebar.dataframe[0].value
        likeness = np.corrcoef(mean.T)[1]
        order = [c for c in np.argsort(sign * likeness) if GENES[c] != "ERBB2"]
        assert list(table["Gene"]) == [GENES[column] for column in order]
        np.testing.assert_allclose(table["Correlation"], likeness[order], atol=1e-6)
    typed(at, "7SK")  # a gene of the list is shown: the list stays
    assert list(at.sidebar.dataframe[0].value["Gene"]) == list(table["Gene"])
    sound(at.button(key="list_reference").click().run())
    assert "ERBB2" in set(at.sidebar.dataframe[0].value["Gene"])


def test_every_map_says_how_far_it_can_be_trusted(shown: MadeRun) -> None:
    layers = ["mean:GNAS", "std:HLA-DRB1", "q05:MT-ND1", "difference:GNAS:ERBB2", "domain",
              "score:GNAS,ERBB2,A:B"]  # fmt: skip
    at = opened(shown, maps=";".join(layers))
    badges = [panel["badge"] for panel in panels(at)]
    assert badges[0]["level"] == "good"
    assert badges[0]["words"] == "● good: held-out PCC 0.62 (0.55–0.68)"
    assert badges[0]["more"][0] == "Good: held-out PCC 0.62, 0.55–0.68 over 3 folds. RVD 0.43."
    assert badges[0]["more"][1].startswith("Leave one section out")
    assert badges[1]["more"][0] == "Weak: held-out PCC 0.10 on one held-out section. RVD 0.90."
    assert badges[2]["level"] == "unknown" and "not known how well" in badges[2]["words"]
    assert badges[3]["words"] == "◐ fair: held-out PCC the weaker 0.35"
    assert badges[4] is None
    assert badges[5]["words"] == "● good: held-out PCC median 0.55"
    said = words(at)
    assert "Trained on olfactory bulb, Mus musculus" in said and "3 held-out sections" in said
    assert "Domain distance: median" in said


def test_nothing_is_made_up_where_nothing_is_known(make_run: Callable[..., MadeRun]) -> None:
    job_queue.clear()
    run = make_run(domain=False)
    at = opened(run)
    assert panels(at)[0]["badge"]["level"] == "unknown"
    said = words(at)
    assert "is not installed any more" in said and "How well this model predicts each gene" in said
    assert "how far this tissue is from" in said
    assert gene_trust({"held_out_pcc": "none"}).level == "unknown"
    assert trust_of(run.prediction, ("GNAS", "ERBB2")).level == "unknown"  # type: ignore[union-attr]


def test_spots_little_to_be_trusted_are_greyed_and_counted(shown: MadeRun) -> None:
    at = opened(shown, maps="mean:GNAS;domain", grey="domain:0.5,spread:0.7,nonsense:1,domain:x")
    domain, spread = shown.prediction.domain_distance, shown.prediction.std[:, 0]
    assert domain is not None
    both, far = ((domain > 0.5) | (spread > 0.7)).sum(), (domain > 0.5).sum()
    said = words(at)
    assert f"GNAS: {both} of 40 spots greyed" in said and f"{far} of 40 spots greyed" in said
    mutes = [panel["mutes"] for panel in panels(at)]
    assert [mute["layer"] for mute in mutes[0]] == ["domain", "std:GNAS"]
    assert [(mute["layer"], mute["above"]) for mute in mutes[1]] == [("domain", 0.5)]
    sound(at.toggle(key=f"grey_spread_{shown.id}").set_value(False).run())
    assert at.query_params["grey"] in ("domain:0.5", ["domain:0.5"])
    sound(at.toggle(key=f"grey_domain_{shown.id}").set_value(False).run())
    assert "grey" not in at.query_params and "greyed:" not in words(at)


def test_gene_sets_are_pasted_or_taken_from_gmt(shown: MadeRun) -> None:
    at = opened(shown, maps="score:GNAS,GONE")
    assert maps(at) == "score:GNAS" and "not in it: GONE" in words(at)
    sound(at.text_area(key="set_0").set_value("erbb2; ensg00000087460 NOPE").run())
    assert maps(at) == "score:ERBB2,GNAS" and "2 of 3 genes are in the panel" in words(at)
    for text, said in (
        ("NOPE NADA", "none of the 2 genes (NOPE, NADA) is in this model's panel"),
        (" ; ", "holds no gene"),
        (" ".join(f"G{n}" for n in range(50_001)), "50,001 genes"),
        (" ".join(f"G{n}" for n in range(50_000)), "none of the 50,000 genes (G0, G1, G2 …)"),
    ):
        sound(at.text_area(key="set_0").set_value(text).run())
        assert said in words(at)
        assert maps(at) == "score:ERBB2,GNAS" and at.text_area(key="set_0").value == text
    sound(at.file_uploader(key="gmt_0").upload("a.gmt", b"A\tx\tGNAS\nbroken\n").run())
    assert "not GMT in line 2 ('broken')" in words(at) and maps(at) == "score:ERBB2,GNAS"
    at.file_uploader(key="gmt_0").upload("b.gmt", b"A\tx\tGNAS\nB\t\tA:B\t7sk\tNO\n")
    sound(at.run())
    sound(at.selectbox(key="gmt_set_0").set_value("B").run())
    assert maps(at) == "score:A:B,7SK" and "B: 2 of 3 genes are in the panel" in words(at)
    assert at.text_area(key="set_0").value == "A:B, 7SK"
