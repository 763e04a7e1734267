from pathlib import Path

import torch

from stem_core.training.recipe_file import read_recipe
from stem_core.training.train import training_provenance
from stem_core.training.training_order import TrainingOrder

RECIPES = Path(__file__).parents[2] / "zoo/recipes"


def order_of(file: Path, data: Path, **changes: str) -> TrainingOrder:
    recipe = read_recipe(file, [f"{key}={value}" for key, value in changes.items()])
    return TrainingOrder(recipe, file, data, data / "out", data / "work")


def test_a_report_says_what_its_figures_came_from(tmp_path: Path) -> None:
    order = order_of(RECIPES / "her2st-breast.yaml", tmp_path)
    said = training_provenance(order, torch.device("cpu"), ["C3", "B4"])
    assert said["Recipe"] == "zoo/recipes/her2st-breast.yaml, protocol strict"
    assert said["Sampling"].startswith(
        "standard preset for the model's column (angle, 4 steps, 4 draws); 20 independent draws"
    )
    assert "HER2ST" in said["Data"] and "B4, C2, C3, C4, C5" in said["Data"]
    assert said["Computed on"] == f"cpu, torch {torch.__version__}"
    assert "bootstrap" in said["Seed"]
    assert "folds of its recipe" in said["Model"]
    assert "in view" in said["Decisions"]
    assert said["Encoders"].endswith("MOB_Rep11; C3, B4, held out here, among them")


def test_other_data_and_encoders_have_their_own_caveats(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    text = (RECIPES / "her2st-breast.yaml").read_text(encoding="utf-8")
    own.write_text(text.replace("folder: her2st", "folder: mine"), encoding="utf-8")
    said = training_provenance(order_of(own, tmp_path), torch.device("cpu"), ["C3"])
    assert "Decisions" not in said and said["Recipe"].startswith("own.yaml")
    assert "images of B4" in said["Encoders"] and "among them" not in said["Encoders"]
    published = order_of(RECIPES / "hest-her2st.yaml", tmp_path)
    said = training_provenance(published, torch.device("cuda"), ["SPA148"])
    assert said["Encoders"].count("may have seen the images of held-out sections") == 2
    assert "never saw" in said["Model"] and "Decisions" not in said
    assert "Spatial deconvolution of" in said["Data"]
    assert said["Computed on"].startswith("cuda")
