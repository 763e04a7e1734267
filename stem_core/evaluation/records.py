"""What goes into the evaluation of a section, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stem_core.errors import EvaluationError
from stem_core.notebook import record_repr

__all__ = ["Difference", "EvaluationInput", "MethodReport", "SectionReport", "plain"]

Array = NDArray[np.float32]
Kind = Literal["model", "draws", "baseline", "depth"]


@dataclass(frozen=True)
class EvaluationInput:
    """A prediction of one section beside its measurement; N spots, K draws, G genes.

    Every value is log2(1 + count).

    Attributes
    ----------
    section
        Its name, shown to people.
    symbols
        The G genes.
    x_um, y_um
        float64 (N,): positions in microns, or in any unit where the pitch is not known.
    measured, predicted
        (N,G), finite. Of a model that draws samples, `predicted` is the mean of its draws.
    samples
        (N,K,G): draws, or None. Independent ones: of ± pairs the first of each.
    band
        Lower and upper bound of the 90 % band, (N,G) each, or None.
    baselines
        What baselines predict from the same condition, name -> (N,G).
    spreads
        Name of a baseline -> (G,): standard deviation per gene of a normal distribution around its
        value, cut at 0. A baseline without one is a point, and not judged as a distribution.
    baseline_settings
        Name of a baseline -> setting -> value, shown as they are.
    baselines_chosen
        How these settings were chosen, a sentence; empty where it is not known.
    patient
        Of the section; empty where it is not known.
    trained_on
        Section -> patient (empty where not known) of all sections the model learned from.
    protocol
        `strict` where no count of the section was used before, `paper` where they helped to choose
        the panel; empty where it is not known.
    ranked_genes
        Genes from the best to the worst as judged before the section was seen, such as by
        `stem_core.evaluation.baselines.rank_genes`; empty where there is no such list.
    file_names
        What the files of a finished prediction call the section, without suffixes; empty where
        `section` is the name it was trained under for sure, as in a fold.
    notes
        Sentences that a reader of the figures has to know, such as that the two may not be one
        section.

    Raises
    ------
    EvaluationError
        Shapes differ, values are not finite, or there is no spot.
    """

    section: str
    symbols: tuple[str, ...]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    measured: Array
    predicted: Array
    samples: Array | None = None
    band: tuple[Array, Array] | None = None
    baselines: Mapping[str, Array] = field(default_factory=dict)
    spreads: Mapping[str, Array] = field(default_factory=dict)
    baseline_settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    baselines_chosen: str = ""
    patient: str = ""
    trained_on: Mapping[str, str] = field(default_factory=dict)
    protocol: Literal["strict", "paper", ""] = ""
    ranked_genes: tuple[str, ...] = ()
    file_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    __repr__ = record_repr

    def __post_init__(self) -> None:
        """Check shapes and values."""
        n, g = self.measured.shape
        arrays: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
            "measured": (self.measured, (n, g)),
            "predicted": (self.predicted, (n, g)),
            "x_um": (self.x_um, (n,)),
            "y_um": (self.y_um, (n,)),
            **{f"baseline {name}": (value, (n, g)) for name, value in self.baselines.items()},
            **{f"spread of {name}": (value, (g,)) for name, value in self.spreads.items()},
        }
        if self.samples is not None:
            arrays["samples"] = (self.samples, (n, self.samples.shape[1], g))
        if self.band is not None:
            arrays |= {f"band {i}": (value, (n, g)) for i, value in enumerate(self.band)}
        for name, (value, shape) in arrays.items():
            if value.shape != shape:
                msg = f"{self.section}: {name} has shape {value.shape}, expected {shape}."
                raise EvaluationError(msg)
            if not np.isfinite(value).all():
                msg = (
                    f"{self.section}: {name} holds values that are not finite numbers; give only "
                    "spots and genes that were measured and predicted."
                )
                raise EvaluationError(msg)
        if len(self.symbols) != g:
            msg = f"{self.section}: {len(self.symbols)} gene symbols for {g} genes."
            raise EvaluationError(msg)
        if n < 1:
            msg = (
                f"{self.section}: prediction and measurement have no spot in common; predict at "
                "the measured spots."
            )
            raise EvaluationError(msg)

    @property
    def left_out(self) -> Literal["patient", "section", "training", ""]:
        """What the model had not seen.

        `patient` where no section of this patient was trained on, `section` where others of the
        patient (or of unknown patients) were, `training` where the section itself was, and nothing
        where that is not known: the training sections are not, or only names of files tell, of
        which none is that of a training section. A file can be called anything.
        """
        if not self.trained_on:
            return ""
        alike = {name.casefold() for name in self.trained_on}
        if self.section in self.trained_on or alike & {n.casefold() for n in self.file_names}:
            return "training"
        patients = set(self.trained_on.values())
        if self.patient and "" not in patients and self.patient not in patients:
            return "patient"
        return "" if self.file_names else "section"


@dataclass(frozen=True)
class MethodReport:
    """Figures of one way to predict.

    Attributes
    ----------
    name, kind
        Such as "ridge", "baseline". Of kind `depth` are one number per spot given to every gene,
        the total of counts: no prediction of genes, but what correlation alone may be made of.
    figures
        By the keys of `stem_core.evaluation.figures.FIGURES`; left out where it cannot be computed.
    intervals
        95 % block bootstrap interval over spots of some of them.
    """

    name: str
    kind: Kind
    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Difference:
    """A figure of the model minus that of a baseline on the same resampled spots.

    Attributes
    ----------
    baseline, figure
        Which baseline, and the key of the figure.
    value, low, high
        Model minus baseline and its 95 % interval; None for figures of pattern, which resampled
        tissue does not have.
    winner
        `model`, `baseline`, or `tie` where they are equal.
    certain
        Whether the interval leaves out 0; None without one.
    """

    baseline: str
    figure: str
    value: float
    low: float | None
    high: float | None
    winner: Literal["model", "baseline", "tie"]
    certain: bool | None


@dataclass(frozen=True)
class SectionReport:
    """How good a prediction of one section is.

    Attributes
    ----------
    section, patient, protocol, left_out, trained_on, baseline_settings, baselines_chosen, notes
        As in `EvaluationInput`.
    ceilings
        Highest mean correlation that counting noise allows, of `log_counts` and of `composition`;
        empty where it cannot be computed.
    n_spots, n_genes, n_constant_genes, n_samples
        What was compared; constant genes are those that do not vary in the measurement.
    block_um
        Side of the blocks of the bootstrap, in microns; None with fewer than 3 spots, where there
        is not a bootstrap, and where all spots lie in one place.
    methods
        The model first, then baselines, depth alone, and other uses of the draws.
    differences
        Model against each baseline.
    calibration
        Columns `nominal`, `observed`, `low`, `high` by source (`band`, `draws`).
    genes
        Columns, one value a gene: `symbol`, `pcc`, `spearman`, `rvd`, `mse`, …
    pairs
        Correlations of gene pairs, counted in cells: `edges`, and `counts` by method, each
        measured × predicted.
    """

    section: str
    patient: str
    protocol: str
    left_out: str
    trained_on: Mapping[str, str]
    baseline_settings: Mapping[str, Mapping[str, float]]
    baselines_chosen: str
    n_spots: int
    n_genes: int
    n_constant_genes: int
    n_samples: int
    block_um: float | None
    methods: tuple[MethodReport, ...]
    differences: tuple[Difference, ...]
    calibration: Mapping[str, Mapping[str, Sequence[float | None]]]
    genes: Mapping[str, Sequence[Any]]
    pairs: Mapping[str, Any]
    ceilings: Mapping[str, float]
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        return (
            f"SectionReport({self.section}: {self.n_spots:,} spots × {self.n_genes:,} genes, "
            f"methods {', '.join(method.name for method in self.methods)})"
        )

    @property
    def figures(self) -> Mapping[str, float]:
        """Figures of the model."""
        return self.methods[0].figures

    @property
    def baselines(self) -> dict[str, Mapping[str, float]]:
        """Figures of each baseline."""
        return {m.name: m.figures for m in self.methods if m.kind == "baseline"}

    def to_dict(self, digits: int = 6) -> dict[str, Any]:
        """Return plain values that JSON takes, so many digits; None for one not finite."""
        cleaned: dict[str, Any] = plain(asdict(self), digits)
        return cleaned


def plain(value: Any, digits: int = 6) -> Any:
    """Return plain values that JSON takes, floats of so many digits, None for one not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, digits) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.{digits}g}") if np.isfinite(value) else None
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    return value
