"""Choose the gene panel: the HMHVG rule (Stem), on training sections only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["choose_panel"]

_UNWANTED = re.compile(r"^(MT-|RPS|RPL|ENS[A-Z]*G\d)", re.IGNORECASE)


def choose_panel(
    sections: Sequence[AnnData], genes: int = 200, highly_variable: int = 2000
) -> list[str]:
    """Choose highly expressed and highly variable genes.

    Per section `normalize_total`, `log1p`, scanpy's highly variable genes; their union; without
    mitochondrial, ribosomal and unnamed genes; measured in all sections; ranked by mean and by
    standard deviation of raw counts over all spots; the smallest n whose two top-n lists share at
    least `genes`; of those the `genes` highest by mean.

    Parameters
    ----------
    sections
        Raw counts in `X`, symbols as `var_names`.
    genes
        Size of the panel.
    highly_variable
        Per section, as far as it has that many genes.

    Returns
    -------
    list of str
        Symbols in alphabetical order.

    Raises
    ------
    ValueError
        Fewer than `genes` genes are left.
    """
    import scanpy

    union: set[str] = set()
    measured = set(sections[0].var_names)
    for section in sections:
        measured &= set(section.var_names)
        scaled = section.copy()
        scanpy.pp.normalize_total(scaled)
        scanpy.pp.log1p(scaled)
        scanpy.pp.highly_variable_genes(scaled, n_top_genes=min(highly_variable, scaled.n_vars))
        union |= set(scaled.var_names[scaled.var["highly_variable"]])
    candidates = [name for name in sorted(union & measured) if not _UNWANTED.match(name)]
    if len(candidates) < genes:
        msg = f"Only {len(candidates)} genes pass the panel rule, {genes} are wanted."
        raise ValueError(msg)
    counts = np.concatenate([np.asarray(s[:, candidates].X) for s in sections])
    mean = counts.mean(0)
    by_mean = np.argsort(-mean, kind="stable")
    by_deviation = np.argsort(-counts.std(0), kind="stable")
    n = genes
    while len(shared := set(by_mean[:n]) & set(by_deviation[:n])) < genes:
        n += 1
    chosen = sorted(shared, key=lambda index: -mean[index])[:genes]
    return sorted(candidates[index] for index in chosen)
