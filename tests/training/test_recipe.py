"""Recipes: those of the zoo, faults in them, and who is held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from stem_core.errors import SectionError, SettingsError
from stem_core.training.plan import FINAL, make_plan
from stem_core.training.recipe import Recipe
from stem_core.training.recipe_file import parse_recipe, read_recipe
from tests.training.tiny_training import HER2ST, PATIENTS, ROOT
from zoo.recipe_check import check_recipe

RECIPES = sorted(p for p in (ROOT / "zoo/recipes").glob("*.yaml") if p.stem != "compact-he")
BUNDLED = ROOT / "zoo/recipes/her2st-breast.yaml"


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    """A folder with nothing but metadata: all that planning may read."""
    (tmp_path / "metadata").mkdir()
    for name, patient in PATIENTS.items():
        said = {"dataset_title": "Spatial deconvolution of …", "patient": patient}
        (tmp_path / "metadata" / f"{name}.json").write_text(json.dumps(said))
    return tmp_path


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_the_recipes_of_the_zoo_are_sound(path: Path) -> None:
    for protocol in ("paper", "strict"):
        recipe = read_recipe(path, [f"protocol={protocol}"])
        said = check_recipe(recipe, path)
        assert recipe.name == path.stem
        assert f"protocol {protocol}" in said[0]


def test_the_papers_recipes_have_the_published_network() -> None:
    for path in RECIPES:
        if path.stem.startswith("hest-"):
            said = " ".join(check_recipe(read_recipe(path), path))
            assert "condition 1536 wide" in said
            assert "12 blocks of width 384, 35." in said
            assert "target published, 300,000 steps of 256 spots in bf16" in said


def test_bundled_recipes_say_what_their_models_say() -> None:
    for name in ("her2st-breast", "mouse-olfactory-bulb"):
        recipe = read_recipe(ROOT / f"zoo/recipes/{name}.yaml")
        made = json.loads((ROOT / f"zoo/models/{name}/config.json").read_text())
        assert list(recipe.data.sections) == made["training_slides"]
        assert list(recipe.folds) == [f["held_out"] for f in made["held_out"]["folds"]]
        assert recipe.condition.side_um == made["view"]["side_um"]
        assert recipe.presets.model_dump() == made["presets"]
        for fold, split in zip(
            made["held_out"]["folds"], make_plan(recipe, None).splits, strict=False
        ):
            assert list(split.train) == fold["trained_on"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.denoiser.stepz=3", "unknown key 'training.denoiser.stepz'; did you mean"),
        ("protocl=strict", "unknown key 'protocl'; did you mean 'protocol'"),
        ("protocol=loose", "protocol = 'loose': input should be 'strict' or 'paper'"),
        ("training.denoiser.steps=many", "training.denoiser.steps = 'many'"),
        ("training.denoiser.steps=3", "must be at least 20"),
        ("training.heads=5", "does not divide into 5 attention heads"),
        ("held_out=[Q9]", "held_out names 'Q9', which is not among the 5 sections"),
        ("validation=[C3]", "under the strict protocol C3 cannot be held out and in validation"),
        ("training.denoiser.patience=3", "name some"),
        ("data.folder=../elsewhere", "below the data folder"),
        ("data.select.where.organ=Breast", "either sections or select"),
        ("presets.standard.samples=3", "pairs of opposite noise"),
        ("panel.rule=file", "rule: file and a file go together"),
        ("layout=", "layout = None"),
        ("name.first=x", "'name' is a value"),
        ("name", "takes key=value"),
        ("name=[", "no YAML"),
    ],
)
def test_a_fault_is_told_in_one_sentence(override: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_recipe(BUNDLED, [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_recipe_is_refused(tmp_path: Path) -> None:
    for content in ("- a\n- b\n", "a: [", "\0"):
        path = tmp_path / "recipe.yaml"
        path.write_text(content)
        with pytest.raises(SettingsError, match="recipe"):
            read_recipe(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="lacks the key"):
        parse_recipe({"name": "ab"}, "short.yaml")


def recipe_with(**changes: object) -> Recipe:
    raw = yaml.safe_load(HER2ST.read_text(encoding="utf-8"))
    return parse_recipe(raw | changes, HER2ST.name)


def test_the_paper_holds_out_a_section_and_strict_a_patient(metadata: Path) -> None:
    paper = make_plan(recipe_with(), metadata)
    assert paper.splits[0].name == FINAL
    assert paper.splits[0].train == ("SPA123", "SPA142", "SPA147")
    strict = make_plan(recipe_with(protocol="strict"), metadata)
    assert strict.splits[0].train == ("SPA123", "SPA142")
    assert strict.splits[0].test == ("SPA148",)


def test_folds_by_section_and_by_patient(metadata: Path) -> None:
    plan = make_plan(recipe_with(held_out=[], folds=["each-section"]), metadata)
    assert [s.test for s in plan.splits] == [(n,) for n in PATIENTS] + [()]
    assert plan.splits[-1].train == tuple(PATIENTS)
    plan = make_plan(recipe_with(held_out=[], folds=["each-patient"], protocol="strict"), metadata)
    assert [s.name for s in plan.splits] == ["SPA147+SPA148", "SPA142", "SPA123", FINAL]
    assert plan.splits[0].train == ("SPA123", "SPA142")


def test_plans_that_cannot_be(metadata: Path) -> None:
    with pytest.raises(SettingsError, match="held_out names 'SPA999'"):
        make_plan(recipe_with(held_out=["SPA999"]), metadata)
    with pytest.raises(SettingsError, match="give --data"):
        make_plan(recipe_with(), None)
    nobody = {"dataset_title": "Spatial deconvolution of …"}
    (metadata / "metadata" / "SPA123.json").write_text(json.dumps(nobody))
    with pytest.raises(SettingsError, match="whose section SPA123 is, is not known"):
        make_plan(recipe_with(protocol="strict"), metadata)
    with pytest.raises(SettingsError, match="no section to train on"):
        make_plan(recipe_with(held_out=list(PATIENTS)), metadata)


def test_missing_sections_are_named_at_once(metadata: Path) -> None:
    with pytest.raises(SectionError, match=r"4 of the 4 sections are not in .* SPA123 SPA142"):
        check_recipe(recipe_with(), HER2ST, metadata)
