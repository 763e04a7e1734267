from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stem_core.errors import SectionError, SpotsError
from stem_core.training.hest import (
    dense,
    log_counts,
    open_section,
    panel_columns,
    read_section,
    section_spots,
)
from stem_core.training.section_checks import check_section
from stem_core.training.section_files import find_sections, patient_name, section_names
from tests.training.sections import GENES, PITCH_UM, made_counts, write_section, write_space_ranger


def test_three_layouts(tmp_path: Path) -> None:
    write_section(tmp_path, "A1", metadata={"patient": "A"})
    write_section(tmp_path, "own")
    write_space_ranger(tmp_path, "SR")
    assert section_names(tmp_path) == ["A1", "SR", "own"]
    patients = {}
    for name in section_names(tmp_path):
        section = read_section(tmp_path, name)
        patients[name] = section.patient
        facts = check_section(section, PITCH_UM)
        assert facts.spots == 25 and facts.genes == len(GENES)
        assert facts.pitch_um == pytest.approx(PITCH_UM)
        whom = section.patient or "not known"
        assert facts.sentence().startswith(f"{name}: patient {whom}, 25 spots, 42 genes")
    assert patients == {"A1": "A", "own": "", "SR": ""}


@pytest.mark.parametrize(
    ("said", "patient"),
    [
        ("A", "A"), (" A ", "A"), (3, "3"), (3.0, "3"), (0, "0"), (None, ""), (float("nan"), ""),
        ("nan", ""), ("  ", ""), ("None", ""), ("Nana", "Nana"),
    ],
)  # fmt: skip
def test_whom_a_section_is_from(tmp_path: Path, said: object, patient: str) -> None:
    assert patient_name(said) == patient
    write_section(tmp_path, "A1", metadata={"patient": said})
    assert read_section(tmp_path, "A1").patient == patient


def test_spots_come_in_the_order_of_the_counts(tmp_path: Path) -> None:
    write_space_ranger(tmp_path, "SR")
    section = read_section(tmp_path, "SR")
    with open_section(section) as slide:
        spots = section_spots(section, slide, 55.0)
    assert list(spots.ids) == list(section.counts.obs_names) == [f"s{i}" for i in range(24, -1, -1)]
    at = dict(zip(spots.ids, zip(spots.x_px, spots.y_px, strict=True), strict=True))
    assert at["s0"] == (100, 100) and at["s6"] == (200, 200)
    original = made_counts(3)
    got = log_counts(section, ["GENE007", "GENE002"])
    want = np.log2(1 + original[list(spots.ids), ["GENE007", "GENE002"]].X)
    assert np.array_equal(got, want.astype(np.float32))


def test_sparse_and_dense_counts_are_the_same(tmp_path: Path) -> None:
    sparse = made_counts(0)
    sparse.X = csr_matrix(sparse.X)
    write_section(tmp_path, "D")
    write_section(tmp_path, "S", sparse)
    first, second = (read_section(tmp_path, name) for name in "DS")
    assert np.array_equal(log_counts(first, GENES), log_counts(second, GENES))


def test_repeated_symbols_and_empty_spots_are_told(tmp_path: Path) -> None:
    table = made_counts(0)
    table.var_names = ["GENE001", *table.var_names[1:]]
    table.X[3] = 0
    write_section(tmp_path, "A", table)
    section = read_section(tmp_path, "A")
    facts = check_section(section, PITCH_UM)
    assert facts.duplicates == ("GENE001",) and facts.empty_spots == 1 and facts.spots == 24
    assert list(section.counts.var_names) == ["GENE001", *GENES[2:]]  # and no GENE001-1
    assert "s3" not in section.counts.obs_names
    assert np.array_equal(log_counts(section, ["GENE001"])[:, 0],
                          np.log2(1 + np.delete(table.X[:, 0], 3)))  # fmt: skip


def test_symbols_are_taken_where_the_index_has_ids(tmp_path: Path) -> None:
    table = made_counts(0)
    table.var["gene_name"] = table.var_names.astype(str)
    table.var_names = [f"ENSG{i:011d}" for i in range(table.n_vars)]
    write_section(tmp_path, "A", table)
    counts = read_section(tmp_path, "A").counts
    assert list(counts.var_names) == GENES
    assert counts.var["gene_ids"].iloc[2] == "ENSG00000000002"


def test_ensembl_ids_without_symbols_are_told(tmp_path: Path) -> None:
    table = made_counts(0)
    ids = [f"ENSG{i:011d}" for i in range(table.n_vars)]
    table.var_names = ids
    write_section(tmp_path, "A", table)
    section = read_section(tmp_path, "A")
    said = check_section(section, PITCH_UM).sentence()
    assert "named by Ensembl id (ENSG00000000000, …): write the symbols into a column" in said
    write_section(tmp_path, "B")
    assert "Ensembl" not in check_section(read_section(tmp_path, "B"), PITCH_UM).sentence()
    with pytest.raises(SectionError, match=r"A measured none of the 2 genes .* Ensembl id, the pa"):
        panel_columns("A", section.counts.var_names, ["GENE002", "GENE001"])
    with pytest.raises(SectionError, match=r"A measured none .* species"):
        panel_columns("A", ["Gene001"], ["GENE001"])
    assert panel_columns("A", ["GENE001", "GENE003"], ["GENE002", "GENE003"]) == [1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: np.log1p(x), "not whole numbers"),
        (lambda x: x - 30, "negative values"),
        (lambda x: np.where(x == x.max(), np.nan, x), "not finite"),
        (lambda x: x * (np.arange(25) < 5)[:, None], "no count at all"),
    ],
)
def test_other_than_raw_counts_are_refused(tmp_path: Path, change: object, says: str) -> None:
    table = made_counts(0)
    table.X = change(table.X).astype(np.float32)  # type: ignore[operator]
    write_section(tmp_path, "A", table)
    with pytest.raises(SectionError, match=says):
        check_section(read_section(tmp_path, "A"))


def test_a_wrong_scale_is_refused(tmp_path: Path) -> None:
    write_section(tmp_path, "A", mpp=2.2, metadata={})
    with pytest.raises(SectionError, match=r"220 µm apart .* platform's lie 200 µm apart"):
        check_section(read_section(tmp_path, "A"))
    write_section(tmp_path, "B", mpp=2.08, metadata={})  # 4 %
    assert check_section(read_section(tmp_path, "B")).mpp == pytest.approx(2.08)


def test_spots_of_another_image_are_refused(tmp_path: Path) -> None:
    table = made_counts(0)
    table.obsm["spatial"] *= 10
    write_section(tmp_path, "A", table)
    with pytest.raises(SpotsError, match="lie outside"):
        check_section(read_section(tmp_path, "A"))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_section(tmp_path, "A")
    with pytest.raises(SectionError, match=r"section B is not in .*sections there: A\)"):
        read_section(tmp_path, "B")
    with pytest.raises(SectionError, match="is not a section name"):
        read_section(tmp_path, "../A")
    (tmp_path / "wsis" / "A.tif").unlink()
    with pytest.raises(SectionError, match="no image"):
        read_section(tmp_path, "A")
    with pytest.raises(SectionError, match=r"1 of the 2 genes .* \(NOPE\)"):
        write_section(tmp_path, "A")
        log_counts(read_section(tmp_path, "A"), ["NOPE", "GENE001"])


def test_damaged_files_and_links_are_refused(tmp_path: Path) -> None:
    write_section(tmp_path, "A")
    table = tmp_path / "st" / "A.h5ad"
    table.write_bytes(table.read_bytes()[:2000])
    with pytest.raises(SectionError, match="cannot be read as h5ad"):
        read_section(tmp_path, "A")
    write_section(tmp_path, "B")
    write_section(tmp_path, "A")
    with h5py.File(table, "r+") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink(str(tmp_path / "st" / "B.h5ad"), "/X")
    with pytest.raises(SectionError, match="points to data in another file"):
        read_section(tmp_path, "A")
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "B.json").write_text("{")
    with pytest.raises(SectionError, match=r"metadata .* cannot be read"):
        read_section(tmp_path, "B")


def test_a_file_that_unpacks_to_more_than_there_is_room_for_is_refused(tmp_path: Path) -> None:
    """Nothing of it is read: unread, 40 GB of zeros take no time and no memory."""
    write_section(tmp_path, "A")
    table = tmp_path / "st" / "A.h5ad"
    with h5py.File(table, "r+") as file:
        del file["X"]
        file.create_dataset("X", (10_000_000, 1000), "f4", chunks=(1000, 1000))
    with pytest.raises(SectionError, match="unpacks to 40 GB"):
        read_section(tmp_path, "A")
    write_space_ranger(tmp_path, "SR")
    with h5py.File(tmp_path / "SR/outs/filtered_feature_bc_matrix.h5", "r+") as file:
        del file["matrix/barcodes"]
        file["matrix"].create_dataset("barcodes", (3_000_000_000,), "S16", chunks=(1000,))
    with pytest.raises(SectionError, match="unpacks to 48 GB"):
        read_section(tmp_path, "SR")


def test_sections_are_found_by_their_metadata(tmp_path: Path) -> None:
    for name, title, state in (("N1", "Spatial atlas of kidney", "Healthy"),
                               ("N2", "Spatial atlas of kidney II", "Cancer"),
                               ("N3", "Another study", "Healthy")):  # fmt: skip
        (tmp_path / "metadata").mkdir(exist_ok=True)
        (tmp_path / "metadata" / f"{name}.json").write_text(
            f'{{"dataset_title": "{title}", "disease_state": "{state}"}}'
        )
    assert find_sections(tmp_path, title_starts="spatial ATLAS") == ["N1", "N2"]
    assert find_sections(tmp_path, title_starts="Spatial", exclude=["N1"]) == ["N2"]
    with pytest.raises(SectionError, match=r"exclude names 'N9', and none of the 3 sections"):
        find_sections(tmp_path, title_starts="Spatial", exclude=["N1", "N9"])
    assert find_sections(tmp_path, where={"disease_state": "healthy"}) == ["N1", "N3"]
    with pytest.raises(SectionError, match="None of the 3 sections"):
        find_sections(tmp_path, title_starts="Lung")


def test_space_ranger_matrix_as_scanpy_reads_it(real_data: Path) -> None:
    import scanpy

    from stem_core.slides.counts_files import MATRIX_NAME, read_counts_matrix

    path = real_data / "spaceranger_crc" / "outs" / MATRIX_NAME
    mine, theirs = read_counts_matrix(path), scanpy.read_10x_h5(path)
    assert list(mine.obs_names) == list(theirs.obs_names)
    assert list(mine.var_names) == list(theirs.var_names)
    assert abs(mine.X - theirs.X).sum() == 0


def test_real_sections_pass(real_data: Path) -> None:
    facts = check_section(read_section(real_data / "her2st", "C5"))
    assert (facts.patient, facts.spots, facts.genes) == ("C", 181, 15721)
    assert facts.pitch_um == pytest.approx(200, rel=0.05)


def test_dense_takes_both() -> None:
    values = np.eye(2, dtype=np.float32)
    assert np.array_equal(dense(csr_matrix(values)), dense(values))
    assert isinstance(anndata.AnnData(values).X, np.ndarray)
