"""Choose the gene panel: the HMHVG rule (Stem), differentially expressed genes, or a list.

Which sections a panel may look at is the protocol's choice: a strict one gives training sections
only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stem_core.errors import SectionError
from stem_core.training.hest import dense, is_ensembl

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["choose_panel", "common_genes", "read_panel"]

Rule = Literal["hmhvg", "deg"]
_UNWANTED = re.compile(r"^(MT-|RPS|RPL|ENS[A-Z]*G\d)", re.IGNORECASE)
_CLUSTERS = 8
_COMPONENTS = 30
_LONGEST_LIST_BYTES = 10_000_000


def choose_panel(
    sections: Sequence[AnnData],
    genes: int = 200,
    highly_variable: int = 2000,
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
        Raw counts in `X`, dense or sparse, symbols as `var_names`.
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
    import scanpy

    measured = common_genes(sections)
    union: set[str] = set()
    scaled_sections = []
    for section in sections:
        scaled = section.copy()
        scanpy.pp.normalize_total(scaled)
        scanpy.pp.log1p(scaled)
        scanpy.pp.highly_variable_genes(scaled, n_top_genes=min(highly_variable, scaled.n_vars))
        union |= set(scaled.var_names[scaled.var["highly_variable"]])
        scaled_sections.append(scaled)
    candidates = [name for name in sorted(union & measured) if not _UNWANTED.match(name)]
    if len(candidates) < genes:
        msg = (
            f"Only {len(candidates)} genes pass the panel rule, {genes} are wanted; ask for fewer."
        )
        raise SectionError(msg)
    if rule == "deg":
        return _differential([s[:, candidates] for s in scaled_sections], candidates, genes, seed)
    mean, deviation = _moments([s[:, candidates].X for s in sections])
    by_mean = np.argsort(-mean, kind="stable")
    by_deviation = np.argsort(-deviation, kind="stable")
    n = genes
    while len(shared := set(by_mean[:n]) & set(by_deviation[:n])) < genes:
        n += 1
    chosen = sorted(shared, key=lambda index: -mean[index])[:genes]
    return sorted(candidates[index] for index in chosen)


def common_genes(sections: Sequence[AnnData]) -> set[str]:
    """Return the genes that all sections have.

    Raises
    ------
    SectionError
        Some sections name their genes by symbol and others by Ensembl id, or there are none.
    """
    names = [list(map(str, section.var_names)) for section in sections]
    by_id = [float(np.mean([is_ensembl(name) for name in some])) > 0.5 for some in names]
    if any(by_id) and not all(by_id):
        odd = by_id.index(True)
        msg = (
            f"Section {odd + 1} of {len(sections)} names its genes by Ensembl id ({names[odd][0]}) "
            f"and section {by_id.index(False) + 1} by symbol ({names[by_id.index(False)][0]}); "
            "write the symbols into a column 'symbol' of its var table."
        )
        raise SectionError(msg)
    shared = set(names[0]).intersection(*names[1:])
    if not shared:
        msg = "The sections have no gene in common; check that they are of one species."
        raise SectionError(msg)
    return shared


def read_panel(path: Path, sections: Sequence[AnnData]) -> list[str]:
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
    missing = [gene for gene in genes if gene not in common_genes(sections)]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        msg = (
            f"{len(missing)} of the {len(genes)} genes of {path.name} are not measured in all "
            f"sections ({shown}); take them out of the list."
        )
        raise SectionError(msg)
    return genes


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
