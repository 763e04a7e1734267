"""Predict spatial gene expression from H&E images, in Python.

>>> import stem_in_a_browser as stem
>>> model = stem.load_model("her2st-breast")
>>> adata = stem.predict(model, stem.sample_slide(), preset="preview", pitch_um=1000)
>>> adata.n_vars, sorted(adata.layers)
(200, ['q05', 'q95', 'ridge', 'std'])

Importing this package loads nothing else; each function imports what it needs. Everything here is
documented with examples in docs/python.md.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.figure import Figure

    from stem_core.encoders.embedding import Encoder
    from stem_core.model.config import LayoutKind
    from stem_core.model.stem_model import StemModel
    from stem_core.prediction.predictor import Predictor, Progress
    from stem_core.prediction.result import Prediction
    from stem_core.prediction.settings import SamplingSettings
    from stem_core.slides.reading import Slide

__all__ = [
    "compare",
    "list_models",
    "load_model",
    "open_slide",
    "plot_map",
    "predict",
    "predict_folder",
    "sample_slide",
]

PresetName = Literal["preview", "standard", "published"]


def list_models() -> list[str]:
    """Return the names of the models on this machine.

    >>> list_models()[:2]
    ['her2st-breast', 'mouse-olfactory-bulb']
    """
    from zoo.registry import list_models

    return [entry.name for entry in list_models()]


def load_model(
    name: str | Path, *, encoder: Encoder | None = None, allow_other_encoder: bool = False
) -> StemModel:
    """Load a model.

    Parameters
    ----------
    name
        Name of a model on this machine (see `list_models`), or the path of a model folder: a Path,
        or a text with a separator, such as "./mine".
    encoder
        Encoder to use in place of the one on this machine: any object with the members of
        `stem_core.encoders.embedding.Encoder`. Its name and the sha256 of its weights must be
        those the model was trained with.
    allow_other_encoder
        Accept an `encoder` of another name or other weights, at your own risk: a model knows only
        the embeddings it was trained with.

    Raises
    ------
    UnknownModelError, ModelFileError, EncoderMissingError
        There is no such model, its files are damaged, or its encoder is not on this machine.

    >>> len(load_model("her2st-breast").symbols)
    200
    """
    from zoo.loader import load_model
    from zoo.registry import open_model

    where = str(name.absolute()) if isinstance(name, Path) else name
    return load_model(open_model(where).folder, encoder, allow_other_encoder=allow_other_encoder)


def open_slide(path: str | Path, *, mpp: float | None = None) -> Slide:
    """Open an H&E image; close it when done, or use it in a `with` statement.

    Parameters
    ----------
    path
        Image file: what OpenSlide reads, OME-TIFF, TIFF, PNG or JPEG.
    mpp
        Microns per pixel at full resolution, where the file does not say.

    Raises
    ------
    SlideError, MppError
        The file cannot be read, or it contradicts `mpp`.

    >>> with open_slide(sample_slide()) as slide:
    ...     slide.width_px, slide.height_px, slide.mpp
    (4096, 4096, 0.8)
    """
    from stem_core.slides.reading import open_slide

    return open_slide(Path(path), mpp=mpp)


def sample_slide() -> Path:
    """Return the path of a synthetic H&E image for trying things out, drawn on first use.

    >>> sample_slide().suffix
    '.tif'
    """
    from app.paths import sample_dir
    from stem_core.slides.sample import sample_slide

    return sample_slide(sample_dir())


def predict(
    model: StemModel,
    slide: str | Path | Slide,
    *,
    mpp: float | None = None,
    spots: str | Path | None = None,
    layout: LayoutKind | None = None,
    pitch_um: float | None = None,
    preset: PresetName = "standard",
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
) -> AnnData:
    """Predict the expression of a model's genes at spots on a slide.

    Parameters
    ----------
    model
        From `load_model`.
    slide
        From `open_slide`, or the path of an image.
    mpp
        Microns per pixel of a path whose file does not say.
    spots
        File of measured spots: an h5ad, Space Ranger's tissue_positions, or a CSV with the columns
        x_px and y_px. Without it spots are laid out on the tissue as in the model's training.
    layout, pitch_um
        Another layout ("visium", "st" or "grid"), another distance between spots.
    preset
        How each spot is sampled; the model's figures were measured with "standard".
    seed
        The same seed gives the same values.
    device
        "auto", "cpu" or "cuda".
    progress
        Called with the stage and how far it is.

    Returns
    -------
    AnnData
        Spots × genes in log2(1 + count): `X` the mean, layers `std`, `q05` and `q95` (the 90 %
        band) and, where the model has one, `ridge` (a linear baseline, to compare with);
        `obsm["spatial"]` in pixels at full resolution, `uns["spatial"]` for scanpy, and
        `uns["stem"]` the record of the run, a JSON text.

    Warns
    -----
    UserWarning
        The spots are of another size or distance than those the model was trained on.

    Raises
    ------
    SlideError, SpotsError, NoTissueError, SettingsError, DeviceError
        The slide or the spots cannot be used, or a setting is out of range.

    >>> model = load_model("mouse-olfactory-bulb")
    >>> adata = predict(model, sample_slide(), preset="preview", layout="grid", pitch_um=1500)
    >>> adata.X.shape == (adata.n_obs, 200)
    True
    """
    from stem_core.prediction.predictor import Predictor
    from stem_core.prediction.result import to_anndata

    predictor, settings = Predictor(model, device), _settings(model, preset, seed)
    with ExitStack() as stack:
        opened = (
            stack.enter_context(open_slide(slide, mpp=mpp)) if isinstance(slide, str | Path)
            else slide
        )  # fmt: skip
        made = _predict(
            predictor, opened, settings, spots=spots, layout=layout, pitch_um=pitch_um,
            progress=progress,
        )  # fmt: skip
    return to_anndata(made)


def predict_folder(
    model: StemModel,
    folder: str | Path,
    out: str | Path,
    *,
    preset: PresetName = "standard",
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> pd.DataFrame:
    """Predict every slide of a folder; one that cannot be used does not stop the others.

    Parameters
    ----------
    model
        From `load_model`.
    folder
        Folder with image files, or a CSV list with the columns slide and, optionally, mpp, spots
        and folder.
    out
        Folder for the results.
    preset, seed, device
        As in `predict`.
    overwrite
        Write over results that exist.

    Returns
    -------
    DataFrame
        Indexed by slide: `folder` with the result, `spots`, `seconds`, and `error`, a sentence, ""
        where there was none.

    Raises
    ------
    SettingsError
        The folder has no slide, or the list cannot be read.

    >>> from tempfile import mkdtemp
    >>> results = predict_folder(
    ...     load_model("her2st-breast"), sample_slide().parent, mkdtemp(), preset="preview"
    ... )
    >>> results["error"].tolist()
    ['']
    """
    import pandas as pd

    from app.commands.slide_lists import list_slides
    from stem_core.errors import StemError
    from stem_core.prediction.export import claim_output_dir, write_prediction
    from stem_core.prediction.predictor import Predictor

    predictor, settings = Predictor(model, device), _settings(model, preset, seed)
    rows = []
    for task in list_slides([Path(folder)], Path(out)):
        started, n_spots, error = time.monotonic(), 0, ""
        try:
            claim_output_dir(task.folder, overwrite)
            with open_slide(task.slide, mpp=task.mpp) as slide:
                made = _predict(predictor, slide, settings, spots=task.spots)
            write_prediction(made, task.folder, overwrite=overwrite)
            n_spots = len(made.spots)
        except StemError as failure:
            error = str(failure)
        rows.append((task.slide.name, task.folder, n_spots, time.monotonic() - started, error))
    columns = ["slide", "folder", "spots", "seconds", "error"]
    return pd.DataFrame(rows, columns=columns).set_index("slide")


def plot_map(
    adata: AnnData,
    layers: str | Sequence[str],
    *,
    slide: Slide | None = None,
    width_px: int = 1600,
    **look: Any,
) -> Figure:
    """Draw maps of a prediction on its H&E image.

    Parameters
    ----------
    adata
        From `predict`, or read from a result's prediction.h5ad.
    layers
        Genes, or names of layers such as "std:GNAS" or "domain"; up to six. Layers that a run of
        the app adds, such as measured values and single draws, are not in a prediction.
    slide
        Slide to draw on; without it the small picture in the prediction.
    width_px
        Width of the figure.
    **look
        `colours` ("Viridis", "Cividis", "Magma" or "Inferno"), `opacity`, `own_range` and `view`
        (see `app.maps.scene.scene_of_layers`).

    Returns
    -------
    Figure
        A matplotlib figure: `figure.savefig("map.png")` writes it, and a notebook shows it where
        matplotlib is shown inline (`%matplotlib inline`).

    Raises
    ------
    SettingsError, SlideError, OutputError
        There is no such layer, the slide is another one, or `adata` is not a prediction.

    >>> adata = predict(
    ...     load_model("her2st-breast"), sample_slide(), preset="preview", pitch_um=1000
    ... )
    >>> len(plot_map(adata, ["GNAS", "std:GNAS"]).axes) > 2
    True
    """
    from app.maps.pictures import draw_figure
    from app.maps.scene import scene_of_layers
    from stem_core.prediction.result import from_anndata

    prediction = from_anndata(adata)
    names = [layers] if isinstance(layers, str) else list(layers)
    named = [
        f"mean:{name}" if name in prediction.symbols or (":" not in name and name != "domain")
        else name
        for name in names
    ]  # fmt: skip
    return draw_figure(scene_of_layers(prediction, named, slide=slide, **look), width_px=width_px)


def compare(adata: AnnData, measured: AnnData | str | Path) -> pd.DataFrame:
    """Compare a prediction with a measured section, gene by gene.

    Parameters
    ----------
    adata
        From `predict`, or read from a result's prediction.h5ad.
    measured
        Raw counts of the same section: an AnnData, an h5ad file, or Space Ranger's outs folder.
        Spots are matched by name, else by position; genes by symbol or Ensembl id.

    Returns
    -------
    DataFrame
        Indexed by gene: Pearson's `pcc` with its 95 % interval `pcc_low` to `pcc_high`, `spearman`,
        `rvd`, `mse` and more (see `stem_core.analysis.comparison.compare_genes`).

    Warns
    -----
    UserWarning
        Something speaks against the two being one section.

    Raises
    ------
    EvaluationError, OutputError
        The two cannot be compared, or `adata` is not a prediction.

    >>> adata = predict(
    ...     load_model("her2st-breast"), sample_slide(), preset="preview", pitch_um=1000
    ... )
    >>> counts = adata.copy()
    >>> counts.X = (2**counts.X - 1).round()
    >>> bool(compare(adata, counts).loc["GNAS", "pcc"] > 0.5)
    True
    """
    from stem_core.analysis.comparison import compare_genes
    from stem_core.analysis.measured_files import match_table, read_measured
    from stem_core.prediction.result import from_anndata

    made = from_anndata(adata)
    if isinstance(measured, str | Path):
        found = read_measured(Path(measured), made)
    else:
        found = match_table(measured, made)
    for doubt in found.doubts:
        warnings.warn(doubt, stacklevel=2)
    x_um, y_um = made.spots.x_px * made.mpp, made.spots.y_px * made.mpp
    return compare_genes(made.mean, found.values, x_um, y_um, made.symbols)


def _settings(model: StemModel, preset: PresetName, seed: int) -> SamplingSettings:
    from stem_core.errors import SettingsError

    presets = model.manifest.presets
    known = tuple(type(presets).model_fields)
    if preset not in known:
        msg = f"There is no preset {preset!r}; choose one of {', '.join(known)}."
        raise SettingsError(msg)
    settings: SamplingSettings = getattr(presets, preset).settings(seed)
    return settings


def _predict(
    predictor: Predictor,
    slide: Slide,
    settings: SamplingSettings,
    *,
    spots: str | Path | None,
    layout: LayoutKind | None = None,
    pitch_um: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Prediction:
    from app.spots import place_spots, unlike_training
    from stem_core.slides.tissue import find_tissue

    slide.require_mpp()
    tissue, trained_on = find_tissue(slide), predictor.model.manifest.layout
    file = None if spots is None else Path(spots)
    placed = place_spots(slide, tissue, trained_on, file=file, layout=layout, pitch_um=pitch_um)
    if warning := unlike_training(placed, trained_on):
        warnings.warn(warning, stacklevel=3)
    return predictor.predict(slide, placed, settings, tissue=tissue, progress=progress)
