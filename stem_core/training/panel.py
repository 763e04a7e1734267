"""Choose the gene panel: the HMHVG rule (Stem), differentially expressed genes, or a list.

Which sections a panel may look at is the protocol's choice: a strict one gives training sections
only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stem_core.errors import SectionError
from stem_core.training.hest import SYMBOLS_NEEDED, dense, named_by_id

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "choose_panel",
    "panel_candidates",
    "read_gene_list",
    "read_panel",
    "require_measured",
    "variable_genes",
]

Rule = Literal["hmhvg", "deg"]
_UNWANTED = re.compile(r"^(MT-|RPS|RPL|ENS[A-Z]*G\d)", re.IGNORECASE)
_CLUSTERS = 8
_COMPONENTS = 30
_HIGHLY_VARIABLE = 2000
_LONGEST_LIST_BYTES = 10_000_000


def choose_panel(
    sections: Mapping[str, AnnData],
    genes: int = 200,
    highly_variable: int = _HIGHLY_VARIABLE,
    *,
    rule: Rule = "hmhvg",
    seed: int = 0,
) -> list[str]:
    """Choose a panel of genes that all sections have, without mitochondrial, ribosomal, unnamed.

    `hmhvg`, highly expressed and highly variable: per section `normalize_total`, `log1p`, scanpy's
    highly variable genes; their union; ranked by mean and by standard deviation of raw counts over
    all spots; the smallest n whose two top-n lists share at least `genes`; of those the `genes`
    highest by mean.

    `deg`, differentially expressed: the same highly variable genes; the spots, each section
    relative to its own mean, in up to 8 clusters (k-means on 30 principal components); Wilcoxon's
    test of each cluster against the rest; the genes whose highest score is highest.

    Parameters
    ----------
    sections
        Name -> raw counts in `X`, dense or sparse, symbols as `var_names`.
    genes
        Size of the panel.
    highly_variable
        Per section, as far as it has that many genes.
    rule
        See above.
    seed
        Of the clusters.

    Returns
    -------
    list of str
        Symbols in alphabetical order.

    Raises
    ------
    SectionError
        Fewer than `genes` genes are left, or sections name their genes in different ways.
    """
    scaled = [_scaled(section, highly_variable) for section in sections.values()]
    candidates = panel_candidates(_genes(sections), map(_variable, scaled), genes)
    if rule == "deg":
        return _differential([s[:, candidates] for s in scaled], candidates, genes, seed)
    mean, deviation = _moments([s[:, candidates].X for s in sections.values()])
    by_mean = np.argsort(-mean, kind="stable")
    by_deviation = np.argsort(-deviation, kind="stable")
    n = genes
    while len(shared := set(by_mean[:n]) & set(by_deviation[:n])) < genes:
        n += 1
    chosen = sorted(shared, key=lambda index: -mean[index])[:genes]
    return sorted(candidates[index] for index in chosen)


def variable_genes(section: AnnData, highly_variable: int = _HIGHLY_VARIABLE) -> frozenset[str]:
    """Return the highly variable genes of a section, as `choose_panel` finds them."""
    return _variable(_scaled(section, highly_variable))


def panel_candidates(
    measured: Mapping[str, Collection[str]], variable: Iterable[AbstractSet[str]], genes: int
) -> list[str]:
    """Return the genes that a panel of `genes` is chosen among.

    Parameters
    ----------
    measured
        Section -> its genes.
    variable
        The highly variable ones of each.
    genes
        Size of the panel.

    Returns
    -------
    list of str
        Symbols in alphabetical order.

    Raises
    ------
    SectionError
        There are too few, or sections name their genes in different ways or by Ensembl id.
    """
    shared = _common_genes(measured)
    if named_by_id(shared):
        msg = (
            f"The sections name their genes by Ensembl id ({min(shared)}, …), and a panel is of "
            f"symbols; {SYMBOLS_NEEDED}."
        )
        raise SectionError(msg)
    union: set[str] = set().union(*variable)
    candidates = [name for name in sorted(union & shared) if not _UNWANTED.match(name)]
    if len(candidates) < genes:
        msg = (
            f"Only {len(candidates)} genes pass the panel rule, {genes} are wanted; ask for fewer "
            "(panel.genes)."
        )
        raise SectionError(msg)
    return candidates


def _common_genes(measured: Mapping[str, Collection[str]]) -> set[str]:
    """Return the genes that all sections have."""
    by_id = {name: named_by_id(genes) for name, genes in measured.items()}
    if any(by_id.values()) and not all(by_id.values()):
        odd, even = (next(n for n, ids in by_id.items() if ids is which) for which in (True, False))
        msg = (
            f"Section {odd} names its genes by Ensembl id ({next(iter(measured[odd]))}) and "
            f"section {even} by symbol ({next(iter(measured[even]))}); {SYMBOLS_NEEDED}."
        )
        raise SectionError(msg)
    shared = set.intersection(*map(set, measured.values()))
    if not shared:
        msg = "The sections have no gene in common; check that they are of one species."
        raise SectionError(msg)
    return shared


def read_panel(path: Path, sections: Mapping[str, AnnData]) -> list[str]:
    """Read a panel from a text file, one gene a line (`#` begins a remark).

    Returns
    -------
    list of str
        Symbols in alphabetical order.

    Raises
    ------
    SectionError
        The file cannot be read, names no gene, or one that not all sections have.
    """
    genes = read_gene_list(path)
    require_measured(genes, path.name, _genes(sections))
    return genes


def read_gene_list(path: Path) -> list[str]:
    """Read genes from a text file, as `read_panel` does, whatever sections have.

    Raises
    ------
    SectionError
        The file cannot be read, or names no gene.
    """
    try:
        if path.stat().st_size > _LONGEST_LIST_BYTES:
            msg = f"The gene list {path.name} is too large; give one gene symbol a line."
            raise SectionError(msg)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"The gene list {path} cannot be read ({error}); give a text file, one gene a line."
        raise SectionError(msg) from error
    genes = sorted({name for line in lines if (name := line.partition("#")[0].strip())})
    if not genes:
        msg = f"The gene list {path.name} names no gene; give one symbol a line."
        raise SectionError(msg)
    return genes


def require_measured(
    genes: Sequence[str], source: str, measured: Mapping[str, Collection[str]]
) -> None:
    """Refuse a list of genes, of the file `source`, that not all sections measured.

    Raises
    ------
    SectionError
        Some of them are not among the genes of some section.
    """
    shared = _common_genes(measured)
    missing = [gene for gene in genes if gene not in shared]
    if not missing:
        return
    if named_by_id(genes) and not named_by_id(shared):
        msg = (
            f"The gene list {source} names genes by Ensembl id ({genes[0]}), and the sections by "
            f"symbol ({min(shared)}); give symbols."
        )
        raise SectionError(msg)
    shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
    msg = (
        f"{len(missing)} of the {len(genes)} genes of {source} are not measured in all sections "
        f"({shown}); take them out of the list."
    )
    raise SectionError(msg)


def _genes(sections: Mapping[str, AnnData]) -> dict[str, list[str]]:
    return {name: list(map(str, section.var_names)) for name, section in sections.items()}


def _scaled(section: AnnData, highly_variable: int) -> AnnData:
    """Normalise a section, take logarithms, and mark its highly variable genes."""
    import scanpy

    scaled = section.copy()
    scanpy.pp.normalize_total(scaled)
    scanpy.pp.log1p(scaled)
    scanpy.pp.highly_variable_genes(scaled, n_top_genes=min(highly_variable, scaled.n_vars))
    return scaled


def _variable(scaled: AnnData) -> frozenset[str]:
    return frozenset(map(str, scaled.var_names[scaled.var["highly_variable"]]))


def _moments(counts: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column over all matrices, one at a time."""
    n = sum(values.shape[0] for values in counts)
    total = sum(dense(values).sum(0, dtype=np.float64) for values in counts)
    mean: NDArray[np.float64] = np.asarray(total) / n
    squared = sum(np.square(dense(values) - mean).sum(0) for values in counts)
    return mean, np.sqrt(np.asarray(squared) / n)


def _differential(
    scaled: Sequence[AnnData], candidates: list[str], genes: int, seed: int
) -> list[str]:
    import anndata
    import pandas as pd
    import scanpy
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    parts = [dense(section.X) for section in scaled]
    values = np.concatenate(parts)
    within = np.concatenate([part - part.mean(0) for part in parts])
    components = min(_COMPONENTS, *(size - 1 for size in within.shape))
    seen = PCA(components, random_state=seed).fit_transform(within)
    clusters = min(_CLUSTERS, max(2, len(seen) // 20))
    label = KMeans(clusters, n_init=10, random_state=seed).fit_predict(seen)
    label = np.where(np.bincount(label)[label] > 1, label, np.argmax(np.bincount(label)))
    table = anndata.AnnData(values)
    table.var_names = candidates
    table.obs["cluster"] = pd.Categorical(label.astype(str))
    table.uns["log1p"] = {"base": None}  # says that the values are logarithms already
    scanpy.tl.rank_genes_groups(table, "cluster", method="wilcoxon")
    found = table.uns["rank_genes_groups"]
    names, scores = (pd.DataFrame(found[key]).to_numpy().ravel() for key in ("names", "scores"))
    best = pd.Series(scores.astype(np.float64), index=names).groupby(level=0).max()
    return sorted(best.nlargest(genes).index.astype(str))
