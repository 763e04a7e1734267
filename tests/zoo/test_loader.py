"""Each way in which a model folder can be wrong has its own sentence."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stem_core.encoders.compact import load_compact_encoder
from stem_core.encoders.pair import JoinedEncoder
from stem_core.errors import ModelFileError, UnknownModelError
from zoo.loader import load_model
from zoo.readme import figures_block, with_figures
from zoo.registry import find_model, list_models, list_offers, open_model
from zoo.schema import SCHEMAS, registry_text, schema_text


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "tiny-test"))


def edit(folder: Path, change: Callable[[dict], None]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_tensors(
    folder: Path,
    change: Callable[[dict[str, torch.Tensor]], None],
    name: str = "model.safetensors",
) -> None:
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(schema_version=99), "manifest version 99"),
        (lambda c: c.update(surprise=1), "surprise"),
        (lambda c: c.pop("panel"), "panel"),
        (lambda c: c["panel"].append(c["panel"][0]), "names a gene twice"),
        (lambda c: c["panel"].pop(), "another number of genes than the panel"),
        (lambda c: c["panel"][0].update(symbol="OTHER"), "lists other genes"),
        (lambda c: c["encoders"][0].update(width=7), "expects 7"),
        (lambda c: c["encoders"][0].update(sha256="0" * 64), "not the one"),
        (lambda c: c.update(condition_width=10), "is .* wide"),
        (lambda c: c["denoiser"].update(depth=2), "do not fit"),
        (lambda c: c.update(regression=None), "residual target needs"),
    ],
)
def test_faulty_manifests(copy: Path, change: Callable[[dict], None], says: str) -> None:
    edit(copy, change)
    with pytest.raises(ModelFileError, match=says):
        load_model(copy)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("residual_root"), "residual_root"),
        (lambda t: t.update(extra=torch.ones(1)), "extra"),
        (lambda t: t.update(residual_root=torch.ones(3)), "size mismatch"),
        (lambda t: t["residual_root"].fill_(float("nan")), "not finite"),
    ],
)
def test_faulty_weights(copy: Path, change: Callable[[dict], None], says: str) -> None:
    edit_tensors(copy, change)
    with pytest.raises(ModelFileError, match=says):
        load_model(copy)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("ridge.level"), "has no 'ridge.level'"),
        (lambda t: t.update({"ridge.weights": torch.ones(3, 3)}), "ridge.weights.*does not fit"),
        (lambda t: t.update({"domain.projection": torch.ones(3)}), "domain.projection"),
        (lambda t: t.update({"band.below": torch.ones(7)}), "band.below"),
        (lambda t: t["domain.mean"].fill_(float("inf")), "not finite"),
    ],
)
def test_faulty_reference(copy: Path, change: Callable[[dict], None], says: str) -> None:
    edit_tensors(copy, change, "reference.safetensors")
    with pytest.raises(ModelFileError, match=says):
        load_model(copy)


def no_sha256(config: dict) -> None:
    config["encoders"][0].update(sha256="", revision="unpinned")


def test_a_given_encoder_is_the_one_of_the_manifest(copy: Path) -> None:
    encoder = load_compact_encoder(copy / "encoder.safetensors")
    assert load_model(copy, encoder).encoder is encoder
    remedy = r"give that encoder, or pass allow_other_encoder=True\.$"
    for change, says in (
        (
            {"name": "other"},
            r"other is not the one model tiny-test was trained .* \(compact-he\)",
        ),
        ({"sha256": "0" * 64}, r"compact-he is not the one .* \(sha256 000000000000…, expected "),
        ({"sha256": ""}, r"compact-he is not the one .* \(no sha256, expected "),
    ):
        changed = replace(encoder, **change)
        with pytest.raises(ModelFileError, match=f"{says}.*{remedy}") as caught:
            load_model(copy, changed)
        assert str(caught.value).count(".") == 1
        model = load_model(copy, changed, allow_other_encoder=True)
        assert model.encoder is changed
        assert model.identity["encoder"] == changed.name
        assert model.identity["encoder_sha256"] == changed.sha256
    with pytest.raises(ModelFileError, match=r"compact-he\+compact-he is not the one"):
        load_model(copy, JoinedEncoder((encoder, encoder)))
    with pytest.raises(ModelFileError, match="gives 7 values, model tiny-test expects 141"):
        load_model(copy, replace(encoder, width=7), allow_other_encoder=True)


def test_an_encoder_without_sha256_in_the_manifest_is_known_by_name(copy: Path) -> None:
    edit(copy, no_sha256)
    encoder = replace(load_compact_encoder(copy / "encoder.safetensors"), sha256="1" * 64)
    assert load_model(copy, encoder).identity["encoder_sha256"] == "1" * 64
    with pytest.raises(ModelFileError, match="other is not the one"):
        load_model(copy, replace(encoder, name="other"))


def test_a_models_own_encoder_is_known_by_its_weights(copy: Path) -> None:
    edit(copy, lambda c: c["encoders"][0].update(name="my-encoder"))
    encoder = load_compact_encoder(copy / "encoder.safetensors")
    assert load_model(copy).identity["encoder"] == "my-encoder"
    assert load_model(copy, encoder).identity["encoder"] == "my-encoder"
    with pytest.raises(ModelFileError, match=r"compact-he is not the one .*\(my-encoder\)"):
        load_model(copy, replace(encoder, sha256="0" * 64))


@pytest.mark.parametrize(
    "name", ["config.json", "genes.csv", "model.safetensors", "reference.safetensors"]
)
def test_missing_files(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelFileError, match=name.split(".")[0]):
        load_model(copy)


def test_registry_has_both_bundled_models() -> None:
    names = {entry.name for entry in list_models() if entry.source == "bundled"}
    assert names == {"her2st-breast", "mouse-olfactory-bulb"}
    with pytest.raises(UnknownModelError, match="did you mean her2st-breast"):
        find_model("her2st-breats")


def test_a_folder_with_the_name_of_another_model_is_told_and_opened_by_its_path(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "models" / "mine"
    shutil.copytree(tiny_model, own)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "name": "her2st-breast"}))
    monkeypatch.setenv("STEM_MODELS_DIR", str(own.parent))
    assert find_model("her2st-breast").source == "bundled"
    [told] = [fault for fault in list_offers().faults.values() if str(own) in fault]
    assert "another name" in told
    entry = open_model(str(own))
    assert (entry.name, entry.folder, entry.source) == ("her2st-breast", own, "local")
    assert open_model("her2st-breast") == find_model("her2st-breast")


@pytest.mark.parametrize("name", ["her2st-breast", "mouse-olfactory-bulb"])
def test_bundled_models_are_whole(name: str) -> None:
    model = load_model(find_model(name).folder)
    manifest = model.manifest
    assert len(model.symbols) == 200
    assert list(model.symbols) == sorted(model.symbols)
    assert not any(symbol.upper().startswith(("MT-", "RPS", "RPL")) for symbol in model.symbols)
    assert len(manifest.held_out.folds) == 3
    for fold in manifest.held_out.folds:
        assert fold.held_out not in fold.trained_on
        assert {b.name for b in fold.baselines} == {"mean", "ridge", "kernel ridge", "kNN"}
    assert "describe the folds" in manifest.held_out.note
    card = (find_model(name).folder / "README.md").read_text(encoding="utf-8")
    assert "Not for use in diagnostic procedures" in card


def test_readme_shows_the_figures_of_the_manifests() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    block = figures_block(entry.manifest for entry in list_models() if entry.source == "bundled")
    assert with_figures(text, block) == text


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_in_docs_are_those_of_the_program(name: str) -> None:
    path = Path(__file__).parents[2] / "docs" / name
    assert path.read_text(encoding="utf-8") == schema_text(name), "run python -m zoo.schema docs"


def test_registry_tells_the_bundled_models_as_they_are() -> None:
    path = Path(__file__).parents[2] / "zoo" / "registry.json"
    assert path.read_text(encoding="utf-8") == registry_text(), (
        "run python -m zoo.schema --registry"
    )
