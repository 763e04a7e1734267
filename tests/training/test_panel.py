import anndata
import numpy as np
import pytest

from stem_core.training.panel import choose_panel

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


def section(names: list[str], level: np.ndarray) -> anndata.AnnData:
    table = anndata.AnnData(RANDOM.poisson(level, size=(80, len(names))).astype(np.float32))
    table.var_names = names
    return table


def test_panel_follows_the_rule() -> None:
    level = np.r_[np.linspace(1, 40, 60), np.full(6, 500.0)]
    first, second = section(NAMES, level), section(NAMES[1:], level[1:])
    panel = choose_panel([first, second], genes=10)
    assert panel == sorted(panel) and len(panel) == 10
    assert all(name.startswith("GENE") for name in panel)
    assert "GENE000" not in panel  # measured in one section only
    # Means and Poisson deviations rank alike here, so the panel is from the top of both lists.
    assert min(int(name[4:]) for name in panel) >= 45


def test_too_few_genes_are_refused() -> None:
    with pytest.raises(ValueError, match="pass the panel rule"):
        choose_panel([section(NAMES, np.linspace(1, 9, len(NAMES)))], genes=100)
