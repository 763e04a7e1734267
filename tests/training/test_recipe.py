"""Recipes: those of the zoo, faults in them, and who is held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from stem_core.errors import SectionError, SettingsError
from stem_core.training.plan import FINAL, make_plan
from stem_core.training.recipe import Recipe
from stem_core.training.recipe_check import check_recipe
from stem_core.training.recipe_file import parse_recipe, read_recipe
from tests.training.tiny_training import HER2ST, PATIENTS, ROOT

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
        assert recipe.condition.side_um == made["condition"]["side_um"]
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
        ("validation=[C3]", "C3 cannot be held out and in validation: the weights would be"),
        ("folds=[C3, C3]", "folds names C3 twice"),
        ("folds=[[C3, C5], [C5, C3]]", "folds names C3+C5 twice"),
        ("folds=[[C3, C3]]", "folds names C3 twice"),
        ("folds=[[]]", "folds has an empty list"),
        ("validation=[C2, C2]", "validation names C2 twice"),
        ("layout.pitch_um=.inf", "layout.pitch_um = inf"),
        ("condition.side_um=.nan", "condition.side_um = nan"),
        ("condition.size_px=1000000", "condition.size_px = 1000000"),
        ("data.source=hest", "unknown key 'data.source'"),
        ("training.denoiser.patience=3", "name some"),
        ("data.folder=../elsewhere", "below the data folder"),
        ("data.select.where.organ=Breast", "either sections or select"),
        ("presets.standard.samples=3", "pairs of opposite noise"),
        ("panel.rule=file", "rule: file and a file go together"),
        ("layout=", "layout = None"),
        ("name.first=x", "'name' is a value"),
        ("name", "takes key=value"),
        ("name=[", "not valid YAML"),
    ],
)
def test_a_fault_is_told_in_one_sentence(override: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_recipe(BUNDLED, [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("heads=0", "at least 1"),
        ("heads=-1", "at least 1"),
        ("width=0", "at least 1"),
        ("width=-48", "at least 1"),
        ("depth=0", "at least 1"),
        ("projected_width=0", "at least 1"),
        ("projected_width=-3", "at least 1"),
        ("inner_networks=0", "at least 1"),
        ("domain_components=0", "at least 1"),
        ("mean.epochs=0", "at least 1"),
        ("mean.networks=0", "at least 1"),
        ("mean.hidden=0", "at least 1"),
        ("mean.bottleneck=0", "at least 1"),
        ("mean.dropout=1.5", "at most 0.99"),
        ("mean.input_dropout=-0.1", "at least 0"),
        ("mean.learning_rate=-1", "greater than 0"),
        ("mean.ridge_alpha=-1.0e+9", "greater than 0"),
        ("mean.kernel_alpha=0", "greater than 0"),
        ("mean.kernel_gamma=.nan", "greater than 0"),
        ("mean.seed=-1", "at least 0"),
        ("denoiser.seed=99999999999999999999999", "at most 9,223,372,036,854,775,807"),
        ("denoiser.learning_rate=.inf", "at most 100"),
        ("denoiser.learning_rate=.nan", "greater than 0"),
        ("denoiser.weight_decay=-1", "at least 0"),
        ("denoiser.clip=0", "greater than 0"),
        ("denoiser.ema=1", "at most 0.999999999999"),
        ("denoiser.condition_noise=-1", "at least 0"),
        ("denoiser.batch=0", "at least 1"),
        ("denoiser.accumulate=1000", "more parts than it has"),
    ],
)
def test_values_of_training_have_bounds(override: str, rule: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_recipe(BUNDLED, [f"training.{override}"])
    assert f"training.{override.split('=')[0]} is " in str(caught.value)
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_projection_has_no_more_components_than_the_condition(metadata: Path) -> None:
    recipe = read_recipe(BUNDLED, ["training.projected_width=5000"])
    with pytest.raises(SettingsError, match=r"projected_width is 5,000, .* no more than \d+ princ"):
        check_recipe(recipe, BUNDLED)


def test_an_encoders_recipe_is_known_as_such() -> None:
    with pytest.raises(
        SettingsError, match=r"compact-he.yaml is the recipe of an encoder.*zoo.bui"
    ):
        read_recipe(ROOT / "zoo/recipes/compact-he.yaml")


def test_what_is_no_recipe_is_refused(tmp_path: Path) -> None:
    for content in ("- a\n- b\n", "a: [", "\0"):
        path = tmp_path / "recipe.yaml"
        path.write_text(content)
        with pytest.raises(SettingsError, match="recipe"):
            read_recipe(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="has no key"):
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


def said_not_to_be_watched(recipe: Recipe, folder: Path | None) -> str:
    with pytest.raises(SettingsError, match="the weights would be chosen by") as caught:
        make_plan(recipe, folder)
    return str(caught.value)


def test_what_is_held_out_is_not_watched(metadata: Path) -> None:
    """Weights are chosen by the validation sections, so no test may hang on them."""
    for protocol in ("strict", "paper"):
        with pytest.raises(SettingsError, match="SPA148 cannot be held out and in validation"):
            recipe_with(protocol=protocol, validation=["SPA148"])
    patient = recipe_with(protocol="strict", validation=["SPA147"])
    said = said_not_to_be_watched(patient, metadata)
    assert "validation names SPA147, which is held out with the patient of SPA148" in said
    with pytest.raises(SettingsError, match="SPA147, which is held out"):
        check_recipe(patient, HER2ST, metadata)
    # Where the section alone is held out, its patient may be watched as it may be trained on.
    paper = make_plan(recipe_with(validation=["SPA147"]), metadata)
    assert paper.splits[-1].train == ("SPA123", "SPA142")
    # In folds, too; there the recipe itself says the patients.
    fold = ["leave_out=patient", "folds=[B4, C3]", "validation=[C2]", "training.target=published"]
    said = said_not_to_be_watched(read_recipe(BUNDLED, fold), None)
    assert "validation names C2, which is held out with the patient of C3" in said
    # Each patient in turn: that leaves out patients whatever a section takes with it.
    turns = {"held_out": [], "folds": ["each-patient"], "validation": ["SPA147"]}
    assert "with the patient of SPA148" in said_not_to_be_watched(recipe_with(**turns), metadata)


def test_blank_patients_are_not_known(metadata: Path) -> None:
    for blank in (float("nan"), " ", "nan", None):
        said = {"dataset_title": "Spatial deconvolution of …", "patient": blank}
        (metadata / "metadata" / "SPA123.json").write_text(json.dumps(said))
        with pytest.raises(SettingsError, match="whose section SPA123 is, is not known"):
            make_plan(recipe_with(protocol="strict"), metadata)
    data = recipe_with().data.model_dump() | {"patients": {"SPA123": " B "}}
    plan = make_plan(recipe_with(protocol="strict", data=data), metadata)
    assert plan.patients["SPA123"] == "B"
    assert plan.splits[-1].train == ("SPA142",)


def test_names_that_no_section_has_are_refused(metadata: Path) -> None:
    data = recipe_with().data.model_dump()
    with pytest.raises(SettingsError, match=r"data.patients names 'SPA184', .* the 4 sections"):
        make_plan(recipe_with(data=data | {"patients": {"SPA184": "B"}}), metadata)
    select = data["select"] | {"exclude": ["SPA132"]}
    with pytest.raises(SectionError, match=r"data\.select\.exclude names 'SPA132'"):
        make_plan(recipe_with(data=data | {"select": select}), metadata)


def test_two_trainings_of_one_name_are_refused(metadata: Path) -> None:
    with pytest.raises(SettingsError, match="make two trainings 'SPA142'"):
        make_plan(recipe_with(folds=["each-section", "SPA142"]), metadata)


def test_a_residual_needs_two_sections_to_learn_from() -> None:
    with pytest.raises(SettingsError, match="leaves section B4 alone to train on when it holds ou"):
        make_plan(read_recipe(BUNDLED, ["leave_out=patient", "folds=[C3]"]), None)


def test_whom_the_metadata_name_is_not_guessed_without_data() -> None:
    path = ROOT / "zoo/recipes/hest-prad-visium.yaml"
    said = check_recipe(read_recipe(path, ["protocol=strict"]), path)
    assert "trainings: not known without --data" in said[-1]
    assert "metadata say whose sections these are" in said[-1]
    assert not any("trained on" in line for line in said)
    # By the paper's protocol nobody has to be known, nor where the recipe says the patients.
    assert "final weights: trained on 22 sections, tested on MEND145" in check_recipe(
        read_recipe(path), path
    )
    changes = ["leave_out=patient", "folds=[B4]"]
    assert "fold B4: trained on 4 sections, tested on B4" in check_recipe(
        read_recipe(BUNDLED, changes), BUNDLED
    )


def test_missing_sections_are_named_at_once(metadata: Path) -> None:
    with pytest.raises(SectionError, match=r"4 of the 4 sections are not in .* SPA123 SPA142") as e:
        check_recipe(recipe_with(), HER2ST, metadata)
    assert f"stem sections download --to {metadata} SPA123" in str(e.value)
    # Sections that are not of HEST-1k cannot be had from there.
    with pytest.raises(SectionError, match=r"5 of the 5 sections .* comments in the recipe") as e:
        check_recipe(read_recipe(BUNDLED), BUNDLED, metadata)
    assert "sections download" not in str(e.value)
