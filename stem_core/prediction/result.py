"""A prediction: expression with its uncertainty for every spot, and its AnnData form.

The AnnData form follows the conventions of Visium data, so that `scanpy.pl.spatial` and squidpy
draw it unchanged: `obsm["spatial"]` holds (x, y) in level-0 pixels and `uns["spatial"]` the
thumbnail with its scale factors. All text is kept as plain objects, which anndata 0.10 can read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stem_core.constants import NOTICE, UNITS
from stem_core.errors import OutputError
from stem_core.notebook import html_table
from stem_core.prediction.values import (
    FileValues,
    PredictedArrays,
    PredictedValues,
    reading,
    require_finite,
    unreadable,
)
from stem_core.slides.spots import Spots, known_pitch

if TYPE_CHECKING:
    import h5py
    from anndata import AnnData

__all__ = [
    "Prediction",
    "clean_text",
    "from_anndata",
    "open_prediction",
    "read_prediction",
    "run_record_json",
    "to_anndata",
]


_OBS_COLUMNS = (
    "x_px",
    "y_px",
    "x_um",
    "y_um",
    "array_row",
    "array_col",
    "in_tissue",
    "tissue_fraction",
)


@dataclass(frozen=True)
class Prediction:
    """Predicted expression of N spots and G genes, in log2(1 + count).

    Attributes
    ----------
    slide_name
        Name shown to people; never used as a path.
    spots
        The N spots, in the order of the rows of all arrays.
    mpp
        Microns per level-0 pixel.
    symbols, ensembl
        The G gene symbols and Ensembl ids (empty where unknown), in panel order.
    values
        Mean, standard deviation, band and ridge baseline of all spots and genes.
    domain_distance
        float32 (N,): how unlike the training images a spot looks.
    gene_table
        The model's `genes.csv`, indexed by symbol: held-out figures of each gene.
    run
        The run record: everything needed to repeat the prediction. JSON-able.
    thumbnail
        uint8 (h, w, 3) picture of the whole slide.
    thumbnail_scale
        Thumbnail pixels per level-0 pixel.

    Raises
    ------
    ValueError
        An array has another shape than spots and genes ask for.
    ModelError
        A value is not a finite number.
    """

    slide_name: str
    spots: Spots
    mpp: float
    symbols: tuple[str, ...]
    ensembl: tuple[str, ...]
    values: PredictedValues
    domain_distance: NDArray[np.float32] | None
    gene_table: pd.DataFrame
    run: dict[str, Any]
    thumbnail: NDArray[np.uint8]
    thumbnail_scale: float

    def __post_init__(self) -> None:
        """Check shapes and values."""
        n_genes = len(self.symbols)
        self.values.check(self.spots.ids, n_genes)
        if self.domain_distance is not None:
            distance = self.domain_distance.astype(np.float32, copy=False)
            if distance.shape != (len(self.spots),):
                msg = f"domain_distance has shape {distance.shape}, expected ({len(self.spots)},)"
                raise ValueError(msg)
            require_finite("domain_distance", distance, self.spots.ids)
            object.__setattr__(self, "domain_distance", distance)
        if len(self.ensembl) != n_genes:
            msg = f"{len(self.ensembl)} Ensembl ids for {n_genes} genes"
            raise ValueError(msg)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.slide_name}: {len(self.spots):,} spots × "
            f"{len(self.symbols):,} genes, model {self._model_name()})"
        )

    def _repr_html_(self) -> str:
        spots, run = self.spots, self.run
        pitch = "" if spots.pitch_um is None else f", {spots.pitch_um:.4g} µm apart"
        return html_table(
            f"Prediction of {self.slide_name}",
            {
                "spots": f"{len(spots):,} ({spots.source}{pitch}, {spots.diameter_um:.4g} µm wide)",
                "genes": f"{len(self.symbols):,} ({', '.join(self.symbols[:3])}, …)",
                "model": self._model_name(),
                "sampler": run.get("sampler"),
                "steps, samples, seed": ", ".join(
                    str(run[key]) for key in ("steps", "samples", "seed") if key in run
                ),
                "microns per pixel": f"{self.mpp:.4g}",
                "units": UNITS,
                "domain distance": "not known" if self.domain_distance is None else None,
                "note": NOTICE,
            },
        )

    def _model_name(self) -> str:
        """Name and version of the model, as the run record has them."""
        model = self.run.get("model")
        if not isinstance(model, dict):
            return str(model or "not known")
        return f"{model.get('name', 'not known')} {model.get('version', '')}".strip()

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean over the draws of a spot, float32 (N, G)."""
        return self.values.all("mean")

    @property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation over the draws of a spot, float32 (N, G)."""
        return self.values.all("std")

    @property
    def q05(self) -> NDArray[np.float32]:
        """Lower bound of the calibrated 90 % band, float32 (N, G)."""
        return self.values.all("q05")

    @property
    def q95(self) -> NDArray[np.float32]:
        """Upper bound of the calibrated 90 % band, float32 (N, G)."""
        return self.values.all("q95")

    @property
    def ridge(self) -> NDArray[np.float32] | None:
        """Prediction of the model's ridge baseline from the same condition, float32 (N, G).

        In three digits, not below 0; None for a model without one.
        """
        return self.values.all("ridge") if self.values.has_ridge else None

    def genes(self) -> pd.DataFrame:
        """Return the panel as a table: index `symbol`, `ensembl`, then the held-out figures."""
        symbols = pd.Index(self.symbols, dtype=object, name="symbol")
        table = self.gene_table.reindex(symbols).drop(columns="ensembl", errors="ignore")
        table.insert(0, "ensembl", pd.Series(list(self.ensembl), index=symbols, dtype=object))
        table.index = symbols
        for column in table.columns:
            if not (pd.api.types.is_numeric_dtype(table[column]) or column == "ensembl"):
                table[column] = table[column].fillna("").astype(str).astype(object)
        return table


def to_anndata(prediction: Prediction) -> AnnData:
    """Return the prediction as an AnnData of N spots and G genes.

    Parameters
    ----------
    prediction
        What to convert.

    Returns
    -------
    AnnData
        `X` the mean; layers `std`, `q05`, `q95` and, of a model that has the baseline, `ridge`;
        `obs` positions (level-0 pixels and microns), array positions, `in_tissue` (0 or 1),
        `tissue_fraction` and `domain_distance`; `var` the panel with its held-out figures;
        `obsm["spatial"]`; `uns["spatial"]` with the thumbnail; `uns["log1p"]` the base of the
        logarithm, for scanpy; `uns["stem"]` the run record as a JSON string.
    """
    from anndata import AnnData

    spots, mpp = prediction.spots, prediction.mpp
    obs = pd.DataFrame(
        {
            "x_px": spots.x_px.astype(np.float64),
            "y_px": spots.y_px.astype(np.float64),
            "x_um": spots.x_px * mpp,
            "y_um": spots.y_px * mpp,
            "array_row": spots.array_row.astype(np.int64),
            "array_col": spots.array_col.astype(np.int64),
            "in_tissue": spots.in_tissue.astype(np.int64),
            "tissue_fraction": spots.tissue_fraction.astype(np.float32),
        },
        index=pd.Index(spots.ids, dtype=object, name="spot"),
    )
    if prediction.domain_distance is not None:
        obs["domain_distance"] = prediction.domain_distance
    adata = AnnData(X=prediction.mean.copy(), obs=obs, var=prediction.genes())
    # pandas 3 turns text into its own string type, which older anndata cannot read.
    adata.obs_names = adata.obs_names.astype(object)
    adata.var_names = adata.var_names.astype(object)
    for name in ("std", "q05", "q95"):
        adata.layers[name] = getattr(prediction, name).copy()
    if prediction.ridge is not None:
        adata.layers["ridge"] = prediction.ridge.copy()
    adata.obsm["spatial"] = np.column_stack([spots.x_px, spots.y_px]).astype(np.float64)
    metadata = {
        "slide_name": clean_text(prediction.slide_name),
        "mpp": float(mpp),
        "spot_diameter_um": float(spots.diameter_um),
        "spots_source": spots.source,
    }
    if spots.pitch_um is not None:  # h5ad has no null that anndata 0.10 can read
        metadata["spot_pitch_um"] = float(spots.pitch_um)
    adata.uns["spatial"] = {
        _library_id(prediction.slide_name): {
            "images": {"hires": np.ascontiguousarray(prediction.thumbnail)},
            "scalefactors": {
                "tissue_hires_scalef": float(prediction.thumbnail_scale),
                "spot_diameter_fullres": float(spots.diameter_um / mpp),
            },
            "metadata": metadata,
        }
    }
    adata.uns["log1p"] = {"base": 2}  # scanpy's fold changes need it
    adata.uns["stem"] = run_record_json(prediction)
    return adata


def run_record_json(prediction: Prediction, indent: int | None = None) -> str:
    """Return the run record, with the notice before it, as JSON."""
    record = {"notice": NOTICE, **prediction.run}
    return clean_text(json.dumps(record, indent=indent, allow_nan=False, ensure_ascii=False))


def clean_text(text: str) -> str:
    """Return text that every file format takes: names of files may hold any bytes."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")


def read_prediction(path: Path) -> Prediction:
    """Read a `prediction.h5ad` back.

    Parameters
    ----------
    path
        A file that `write_prediction` made.

    Returns
    -------
    Prediction
        Equal to what was written.

    Raises
    ------
    OutputError
        The file is missing, damaged, or no prediction of this program.
    """
    from anndata import read_h5ad

    try:
        return _prediction_of(read_h5ad(path))
    except FileNotFoundError as error:
        msg = f"There is no file {path}; run the prediction again or name the right folder."
        raise OutputError(msg) from error
    except (OSError, KeyError, ValueError, TypeError, StopIteration) as error:
        raise unreadable(path, error) from error


def open_prediction(path: Path) -> Prediction:
    """Open a `prediction.h5ad`; its values are read when they are asked for.

    Parameters
    ----------
    path
        A file that `write_prediction` made.

    Raises
    ------
    OutputError
        The file is missing, damaged, or no prediction of this program.
    """
    from anndata.io import read_elem

    values = FileValues(path)

    def read(file: h5py.File) -> Prediction:
        obs, var, uns = (read_elem(file[name]) for name in ("obs", "var", "uns"))
        return Prediction(**_facts(obs, var, uns), values=values)

    return reading(path, read)


def from_anndata(adata: AnnData) -> Prediction:
    """Return the prediction that `to_anndata` turned into this table.

    Raises
    ------
    OutputError
        The table is not a prediction of this program, or parts of it are gone.
    """
    try:
        return _prediction_of(adata)
    except (KeyError, ValueError, TypeError, StopIteration) as error:
        raise unreadable(Path("This AnnData"), error) from error


def _prediction_of(adata: AnnData) -> Prediction:
    return Prediction(
        **_facts(adata.obs, adata.var, adata.uns),
        values=PredictedArrays(
            mean=np.asarray(adata.X),
            std=np.asarray(adata.layers["std"]),
            q05=np.asarray(adata.layers["q05"]),
            q95=np.asarray(adata.layers["q95"]),
            ridge=np.asarray(adata.layers["ridge"]) if "ridge" in adata.layers else None,
        ),
    )


def _facts(obs: pd.DataFrame, var: pd.DataFrame, uns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a prediction other than its (N, G) arrays, from an AnnData's parts.

    Raises
    ------
    KeyError, ValueError, TypeError, StopIteration
        These are not parts of a prediction.
    """
    missing = [name for name in _OBS_COLUMNS if name not in obs]
    if missing:
        msg = f"no column {', '.join(missing)}"
        raise ValueError(msg)
    library = next(iter(uns["spatial"].values()))
    metadata = library["metadata"]
    spots = Spots(
        ids=tuple(map(str, obs.index)),
        x_px=obs["x_px"].to_numpy(np.float64),
        y_px=obs["y_px"].to_numpy(np.float64),
        diameter_um=float(metadata["spot_diameter_um"]),
        pitch_um=known_pitch(metadata.get("spot_pitch_um")),
        source=metadata["spots_source"],
        array_row=obs["array_row"].to_numpy(np.int32),
        array_col=obs["array_col"].to_numpy(np.int32),
        in_tissue=obs["in_tissue"].to_numpy(bool),
        tissue_fraction=obs["tissue_fraction"].to_numpy(np.float32),
    )
    gene_table = var.copy()
    gene_table.index.name = "symbol"
    return {
        "slide_name": str(metadata["slide_name"]),
        "spots": spots,
        "mpp": float(metadata["mpp"]),
        "symbols": tuple(map(str, var.index)),
        "ensembl": tuple(map(str, var["ensembl"])),
        "domain_distance": (
            obs["domain_distance"].to_numpy(np.float32) if "domain_distance" in obs else None
        ),
        "gene_table": gene_table,
        "run": json.loads(uns["stem"]),
        "thumbnail": np.asarray(library["images"]["hires"], dtype=np.uint8),
        "thumbnail_scale": float(library["scalefactors"]["tissue_hires_scalef"]),
    }


def _library_id(slide_name: str) -> str:
    """Return the slide's name as a key that HDF5 accepts."""
    return re.sub(r"[/\\\x00-\x1f]+", "_", clean_text(slide_name)).strip(". ") or "slide"
