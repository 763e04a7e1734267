from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stem_core.errors import SectionError
from stem_core.training.panel import choose_panel, read_panel

RANDOM = np.random.default_rng(0)
NAMES = [
    *(f"GENE{i:03d}" for i in range(60)),
    "MT-CO1",
    "mt-Nd1",
    "RPS3",
    "Rpl5",
    "ENSG00000123456",
    "ENSMUSG00000064339",
]


IDS = [f"ENSG{i:011d}" for i in range(60)]


def section(names: list[str], level: np.ndarray) -> anndata.AnnData:
    table = anndata.AnnData(RANDOM.poisson(level, size=(80, len(names))).astype(np.float32))
    table.var_names = names
    return table


def test_panel_follows_the_rule() -> None:
    level = np.r_[np.linspace(1, 40, 60), np.full(6, 500.0)]
    first, second = section(NAMES, level), section(NAMES[1:], level[1:])
    panel = choose_panel({"A": first, "B": second}, genes=10)
    assert panel == sorted(panel) and len(panel) == 10
    assert all(name.startswith("GENE") for name in panel)
    assert "GENE000" not in panel  # measured in one section only
    # Means and Poisson deviations rank alike here, so the panel is from the top of both lists.
    assert min(int(name[4:]) for name in panel) >= 45


def test_too_few_genes_are_refused() -> None:
    with pytest.raises(SectionError, match="pass the panel rule"):
        choose_panel({"A": section(NAMES, np.linspace(1, 9, len(NAMES)))}, genes=100)


def test_sparse_counts_give_the_same_panel() -> None:
    level = np.r_[np.linspace(1, 40, 60), np.full(6, 500.0)]
    first, second = section(NAMES, level), section(NAMES, level)
    panel = choose_panel({"A": first, "B": second}, genes=12)
    for table in (first, second):
        table.X = csr_matrix(table.X)
    assert choose_panel({"A": first, "B": second}, genes=12) == panel


def test_differential_genes_are_those_that_tell_places_apart() -> None:
    level = np.full((80, 30), 20.0)
    level[:40, :5] *= 8
    level[40:, 5:10] *= 8
    table = anndata.AnnData(np.random.default_rng(5).poisson(level).astype(np.float32))
    table.var_names = [f"GENE{i:03d}" for i in range(30)]
    panel = choose_panel({"A": table, "B": table.copy()}, genes=8, rule="deg")
    assert len(panel) == 8
    assert sum(int(name[4:]) < 10 for name in panel) >= 7  # 2 or 3 by chance


def test_symbols_and_ensembl_ids_do_not_mix() -> None:
    level = np.full(60, 9.0)
    by_symbol, by_id = (section(n, level) for n in (NAMES[:60], IDS))
    with pytest.raises(SectionError, match=r"Section B names its genes by Ensembl id .* A by sym"):
        choose_panel({"A": by_symbol, "B": by_id}, genes=10)
    other = section([f"G{i}" for i in range(60)], level)
    with pytest.raises(SectionError, match="no gene in common"):
        choose_panel({"A": by_symbol, "B": other})
    with pytest.raises(SectionError, match=r"by Ensembl id \(ENSG0.*a column 'symbol' of the h5ad"):
        choose_panel({"A": by_id, "B": by_id}, genes=10)


def test_a_panel_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "genes.txt"
    table = section(NAMES, np.full(len(NAMES), 9.0))
    file.write_text("# mine\nGENE003\nGENE001  # twice\nGENE001\n\n")
    assert read_panel(file, {"A": table}) == ["GENE001", "GENE003"]
    file.write_text("GENE001\nNOPE\n")
    with pytest.raises(SectionError, match=r"1 of the 2 genes .* \(NOPE\)"):
        read_panel(file, {"A": table})
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SectionError, match="cannot be read"):
        read_panel(file, {"A": table})
    file.write_text("# nothing\n")
    with pytest.raises(SectionError, match="names no gene"):
        read_panel(file, {"A": table})
    file.write_text("\n".join(IDS))
    with pytest.raises(SectionError, match=r"list genes.txt names genes by Ensembl id"):
        read_panel(file, {"A": table})
