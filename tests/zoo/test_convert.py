"""Checkpoints of the original authors become model folders that load, sample and predict."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stem_core.diffusion.denoiser import Denoiser
from stem_core.encoders.preparation import AsRead, Prepared
from stem_core.errors import EncoderMissingError, ModelFileError, SettingsError
from stem_core.model.config import DenoiserConfig
from stem_core.prediction.predictor import Predictor
from stem_core.prediction.settings import SamplingSettings
from stem_core.slides.reading import open_slide
from stem_core.slides.spots import lay_out_spots
from stem_core.slides.tissue import find_tissue
from tests.hub.server import LoopbackHub
from tests.zoo.published import write_training_checkpoint, write_whole_model
from tests.zoo.world import Machine, one_line
from zoo.convert import ModelFacts, convert_checkpoint, read_genes
from zoo.loader import load_model

TINY = {"genes": 12, "condition_width": 24, "depth": 2, "width": 32, "heads": 2}
FACTS = ModelFacts(name="tiny-converted", encoders=("compact-he",))


class Invented:
    """An encoder of any width, from the colours of a patch alone."""

    name, sha256, arithmetic = "invented", "0" * 64, "fp32 cpu"
    preparation = AsRead()

    def __init__(self, width: int) -> None:
        self.width = width
        self._mix = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)

    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        """(N,3,P,P) -> (N,width)."""
        colours = patches.reshape(len(patches), 3, -1).mean(-1) / 255
        return (colours.astype(np.float32) @ self._mix * 20).astype(np.float32)

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        assert isinstance(prepared, np.ndarray)
        return self.encode(prepared)

    def to(self, device: torch.device) -> None:
        """Nothing to move."""


def gene_list(path: Path, count: int) -> Path:
    path.write_text("\n".join(f"GENE{i}" for i in range(count)) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("form", "depth"), [("model", 12), ("training", 3)])
def test_a_published_size_checkpoint_converts_and_predicts(
    form: str, depth: int, tmp_path: Path, sample_piece: Path
) -> None:
    """One of the published size in all; that of a training, five times as large, has less depth."""
    path, genes = tmp_path / "published.pt", gene_list(tmp_path / "genes.txt", 200)
    if form == "model":
        state = write_whole_model(path, depth=depth)
    else:
        _, state = write_training_checkpoint(path, depth=depth)
    out = tmp_path / "out"
    manifest = convert_checkpoint(path, genes, out, ModelFacts(name="published-size"))
    size = manifest.denoiser
    assert (size.depth, size.width, size.heads, size.condition_width) == (depth, 384, 6, 1536)
    assert [e.name for e in manifest.encoders] == ["uni", "conch"]
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md", "config.json", "genes.csv", "model.safetensors",
    ]  # fmt: skip
    with pytest.raises(EncoderMissingError, match=r"MahmoodLab/UNI, gated.*MahmoodLab/conch"):
        load_model(out)
    with pytest.raises(ModelFileError, match=r"encoder invented is not the one .*\(uni\+conch\)"):
        load_model(out, Invented(1536))
    model = load_model(out, Invented(1536), allow_other_encoder=True)
    assert model.identity["encoder"] == "invented"
    # The converted network is the checkpoint's: same output on the same input.
    plain = Denoiser(DenoiserConfig(depth=depth)).eval()
    plain.load_state_dict(state)
    x, given = torch.randn(2, 3, 200), 8 * torch.randn(2, 1536)
    with torch.inference_mode():
        expected = plain(x, torch.tensor([3, 700]), given)
        found = model.generator.denoiser(x, torch.tensor([3, 700]), model.generator.label(given))
    torch.testing.assert_close(found, expected)
    # And it predicts on a slide.
    with open_slide(sample_piece) as slide:
        tissue = find_tissue(slide)
        spots = lay_out_spots(slide, tissue, "visium").take(np.arange(3))
        predictor = Predictor(model, "cpu", "fp32")
        prediction = predictor.predict(
            slide, spots, SamplingSettings("dpmpp-2m", 2, 2), tissue=tissue
        )
    assert prediction.mean.shape == (3, 200)
    assert np.isfinite(prediction.mean).all()
    assert prediction.domain_distance is None
    assert prediction.run["band"] == "normal approximation"
    assert prediction.run["patch"]["mode"] == "paper"


def test_tiny_conversion_says_what_it_knows(tmp_path: Path) -> None:
    path, genes = tmp_path / "a.pt", gene_list(tmp_path / "genes.txt", 12)
    write_whole_model(path, **TINY | {"condition_width": 141})
    manifest = convert_checkpoint(path, genes, tmp_path / "out", FACTS)
    assert manifest.symbols == [f"GENE{i}" for i in range(12)]
    assert not manifest.calibrated
    assert manifest.held_out.summary == "not known"
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "nothing calibrated it" in card
    assert "stem zoo convert" in card
    assert load_model(tmp_path / "out").symbols[0] == "GENE0"


def test_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_whole_model(path, **TINY)
    genes = gene_list(tmp_path / "genes.txt", 12)
    with pytest.raises(ModelFileError, match=r"names 11 genes.* has 12"):
        convert_checkpoint(path, gene_list(tmp_path / "g.txt", 11), tmp_path / "o", FACTS)
    with pytest.raises(SettingsError, match=r"takes 24 values.*give 141"):
        convert_checkpoint(path, genes, tmp_path / "o", FACTS)
    with pytest.raises(SettingsError, match="no encoder 'magic'"):
        convert_checkpoint(
            path, genes, tmp_path / "o", FACTS.model_copy(update={"encoders": ("magic",)})
        )
    with pytest.raises(SettingsError, match="5 attention heads"):
        convert_checkpoint(path, genes, tmp_path / "o", FACTS, heads=5)
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pt")
    with pytest.raises(ModelFileError, match="not a denoiser of the published kind"):
        convert_checkpoint(tmp_path / "other.pt", genes, tmp_path / "o", FACTS)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "0 lines"), ("A\nB\nA\n", "A twice"), ("A\n<script>\n", "not a gene symbol")],
)
def test_gene_lists_that_cannot_be_used(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text(text)
    with pytest.raises(ModelFileError, match=says):
        read_genes(tmp_path / "g.txt")


class Payload:
    """Writes a file when it is unpickled carelessly."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, (f"touch {self.target}",)


def malicious(target: Path) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model": Payload(target)}, 2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return held.getvalue()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with LoopbackHub() as hub:
        hub.add_repo("sz2524337/Stem")
        yield Machine(hub, tmp_path)


def test_the_kidney_model_is_pulled_converted_and_verified_in_one_step(
    machine: Machine, tmp_path: Path, sample_piece: Path
) -> None:
    path = tmp_path / "k.pt"
    write_whole_model(path, **TINY | {"condition_width": 1536})
    genes = gene_list(tmp_path / "g.txt", 12).read_bytes()
    files = {"kidney_hmhvg_full_model.pt": path.read_bytes(), "200_selected_hmhvg.txt": genes}
    commit = machine.hub.commit("sz2524337/Stem", {**files, "other.bin": b"x" * 100_000})
    machine.hub.clear()
    done = machine.stem("zoo", "pull", "kidney-visium-hmhvg")
    assert done.returncode == 0, done.stderr
    assert commit in done.stdout
    assert "MahmoodLab/UNI" in done.stdout  # what it still needs, and under which licence
    assert not [r for r in machine.hub.requests if "other.bin" in r.path]
    assert "it loads" in machine.stem("zoo", "verify", "kidney-visium-hmhvg").stdout
    info = json.loads(machine.stem("zoo", "info", "kidney-visium-hmhvg", "--json").stdout)
    config = json.loads((Path(info["folder"]) / "config.json").read_text())
    assert config["tissue"] == "kidney"
    assert [e["name"] for e in config["encoders"]] == ["uni", "conch"]
    refused = machine.stem(
        "predict", sample_piece, "--model", "kidney-visium-hmhvg", "--out", tmp_path / "result"
    )
    assert "needs UNI (MahmoodLab/UNI, gated" in one_line(refused)
    removed = machine.stem("zoo", "remove", "kidney-visium-hmhvg")
    assert removed.returncode == 0, removed.stderr
    for kept in ("models", "blobs", "partial", "installed/models"):
        assert not list((machine.home / "zoo" / kept).iterdir()), kept


def test_a_malicious_checkpoint_is_refused_and_does_not_run(
    machine: Machine, tmp_path: Path
) -> None:
    target = tmp_path / "ran"
    content = malicious(target)
    files = {"kidney_hmhvg_full_model.pt": content, "200_selected_hmhvg.txt": b"A\nB\n"}
    machine.hub.commit("sz2524337/Stem", files)
    said = one_line(machine.stem("zoo", "pull", "kidney-visium-hmhvg"))
    assert "system" in said
    assert machine.states()["kidney-visium-hmhvg"] == "available"
    (tmp_path / "bad.pt").write_bytes(content)
    said = one_line(
        machine.stem(
            "zoo", "convert", tmp_path / "bad.pt", "--genes", gene_list(tmp_path / "g.txt", 2),
            "--out", tmp_path / "out",
        )
    )  # fmt: skip
    assert "system" in said
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))  # carelessly: it would have
    assert target.exists()


def test_convert_by_command(machine: Machine, tmp_path: Path, sample_piece: Path) -> None:
    write_whole_model(tmp_path / "a.pt", **TINY | {"condition_width": 141})
    done = machine.stem(
        "zoo", "convert", tmp_path / "a.pt", "--genes", gene_list(tmp_path / "g.txt", 12),
        "--out", machine.home / "models" / "mine", "--name", "mine", "--encoders", "compact-he",
        "--tissue", "liver", "--organ", "Liver",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "12 genes, depth 2, width 32, 2 heads" in done.stdout
    assert machine.usable("mine")
    predicted = machine.stem(
        "predict", sample_piece, "--model", "mine", "--out", tmp_path / "result",
        "--layout", "grid", "--pitch-um", "300", "--steps", "2", "--samples", "2",
    )  # fmt: skip
    assert predicted.returncode == 0, predicted.stderr
    header = (tmp_path / "result" / "expression.csv").read_text().splitlines()[0]
    assert header.split(",")[-12:] == [f"GENE{i}" for i in range(12)]
