"""The numbers behind the maps of a result: one value for each spot, layer by layer."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from app.jobs.draws_file import KeptDraws
from app.maps.layers import Layer, parse_layer
from stem_core.errors import SettingsError
from stem_core.prediction.result import Prediction

__all__ = ["MapValues", "check_measured"]

Values = NDArray[np.float32]
_MOST_SINGLE_GENES = 20


class MapValues:
    """The layers of one result of N spots and G genes.

    All arrays are float32 in the order of the result's spots, and cannot be written to; NaN stands
    for no value. Safe to share between threads.

    Parameters
    ----------
    prediction
        The result.
    measured
        float32 (N, G): what was measured at the spots, in log2(1 + count), NaN where it was not.
    kept
        Single draws and the baseline, where the run kept them; read map by map.

    Attributes
    ----------
    prediction
        The result.
    spot_ids
        The spots' own names.
    symbols
        The G gene symbols, in panel order.
    mpp
        Microns per level-0 pixel.
    spot_diameter_um
        Diameter of a spot.
    pitch_um
        Distance of neighbouring spots; the spot diameter where they have no pitch.
    thumbnail
        uint8 (h, w, 3): the picture of the whole slide that the result keeps.
    thumbnail_scale
        Its pixels per level-0 pixel.
    measured_genes
        Symbols of the genes with a measured value, in panel order.
    n_draws
        Single draws that can be shown.
    draws_made
        Draws that the run made of each spot; 0 where none was kept.
    has_baseline
        Whether there is the ridge baseline's prediction.

    Raises
    ------
    SettingsError
        The measured values, or what the run kept, are of other spots or genes.
    """

    def __init__(
        self,
        prediction: Prediction,
        measured: Values | None = None,
        kept: KeptDraws | None = None,
    ) -> None:
        spots = prediction.spots
        self.symbols = prediction.symbols
        self.mpp = prediction.mpp
        self.spot_diameter_um = spots.diameter_um
        self.pitch_um = spots.diameter_um if spots.pitch_um is None else spots.pitch_um
        self.thumbnail = prediction.thumbnail
        self.thumbnail_scale = prediction.thumbnail_scale
        self._places = {symbol: place for place, symbol in enumerate(self.symbols)}
        self._positions = _frozen(np.column_stack([spots.x_px, spots.y_px]).astype(np.float32))
        domain = prediction.domain_distance
        self._domain = None if domain is None else _frozen(domain)
        self.prediction = prediction
        self.spot_ids = spots.ids
        self._measured: Values | None = None
        shape = (len(spots), len(self.symbols))
        if measured is not None:
            check_measured(measured, shape)
            # Gene by gene, so that a layer lies in one piece.
            self._measured = _frozen(np.ascontiguousarray(measured.T, dtype=np.float32))
        if kept is not None and kept.shape != shape:
            msg = "The single draws kept are of another run; start the run again to have its own."
            raise SettingsError(msg)
        self._kept = kept
        self.n_draws, self.draws_made = (kept.count, kept.made) if kept else (0, 0)
        self.has_baseline = kept is not None and kept.has_baseline
        self.measured_genes: tuple[str, ...] = ()
        if self._measured is not None:
            places = np.flatnonzero(np.isfinite(self._measured).any(axis=1))
            self.measured_genes = tuple(self.symbols[place] for place in places)

    @property
    def has_domain(self) -> bool:
        """Whether there is a domain distance."""
        return self._domain is not None

    @property
    def size_bytes(self) -> int:
        """Memory that the layers can come to take; the prediction's are read as they are needed."""
        layers = 4 * 4 * len(self.spot_ids) * len(self.symbols)
        if self._measured is not None:
            layers += self._measured.nbytes
        return layers + self._positions.nbytes + self.thumbnail.nbytes

    def positions(self) -> Values:
        """Return the spots' centres x, y in level-0 pixels, float32 (N, 2)."""
        return self._positions

    def parse(self, text: str) -> Layer:
        """Read the name of a layer of this result; raises SettingsError as `parse_layer`."""
        return parse_layer(text, self._places)

    def layer(self, layer: Layer) -> Values:
        """Return a layer, float32 (N,).

        Raises
        ------
        SettingsError
            This result does not have it.
        OutputError
            What the run kept cannot be read any more.
        """
        if layer.kind == "domain":
            if self._domain is None:
                msg = "This result was made without a domain distance; choose another layer."
                raise SettingsError(msg)
            return self._domain
        if layer.kind == "score":
            return _frozen(self._score(layer))
        if layer.kind == "difference":
            first, second = (self._row("mean", gene) for gene in layer.genes)
            return _frozen(first - second)
        if layer.kind == "error":
            gene = layer.genes[0]
            return _frozen(self._row("mean", gene) - self._row("measured", gene))
        if layer.kind == "draw":
            return self._single_draw(layer)
        if layer.kind == "baseline":
            return _frozen(self._kept_baseline().baseline(self._places[layer.genes[0]]))
        return self._row(layer.kind, layer.genes[0])

    def baseline(self) -> Values:
        """Return the ridge baseline's prediction of all genes, float32 (N, G).

        Raises
        ------
        SettingsError
            It was not kept, or the model has none.
        OutputError
            The file cannot be read any more.
        """
        return self._kept_baseline().baseline()

    def measured(self) -> Values | None:
        """Return what was measured, (N, G), NaN where nothing was; None where nothing was given."""
        return None if self._measured is None else self._measured.T

    def limits(
        self, layer: Layer, low_percentile: float = 1.0, high_percentile: float = 99.0
    ) -> tuple[float, float]:
        """Return the ends of a colour scale: two percentiles of a layer, NaN left out.

        Where they are equal the upper end is one above the lower; without any value they are
        0 and 1.

        Raises
        ------
        SettingsError
            This result does not have it, or the percentiles are not 0 ≤ low < high ≤ 100.
        """
        if not 0 <= low_percentile < high_percentile <= 100:
            msg = (
                f"Percentiles from {low_percentile:g} to {high_percentile:g} are not a range; "
                "choose two numbers from 0 to 100, the lower first."
            )
            raise SettingsError(msg)
        values = self.layer(layer)
        values = values[np.isfinite(values)]
        if not values.size:
            return 0.0, 1.0
        low, high = map(float, np.percentile(values, [low_percentile, high_percentile]))
        return low, high if high > low else low + 1.0

    def _row(self, kind: str, gene: str) -> Values:
        if kind != "measured":
            column = self.prediction.values.column(kind, self._places[gene])
            return _frozen(np.ascontiguousarray(column))
        if self._measured is None:
            msg = (
                "No measured values were given for this result; add the measured section, or "
                "choose a layer of the prediction."
            )
            raise SettingsError(msg)
        row: Values = self._measured[self._places[gene]]
        return row

    def _single_draw(self, layer: Layer) -> Values:
        if self._kept is None:
            msg = (
                "This run kept no single draws, since it is older than those; start it again, or "
                "choose another layer."
            )
            raise SettingsError(msg)
        if layer.number > self.n_draws:
            msg = (
                f"This run kept {self.n_draws} single draws, so there is no draw {layer.number}; "
                f"choose 1 to {self.n_draws}."
            )
            raise SettingsError(msg)
        return _frozen(self._kept.draw(layer.number, self._places[layer.genes[0]]))

    def _kept_baseline(self) -> KeptDraws:
        if self._kept is None or not self._kept.has_baseline:
            msg = (
                "This run kept no ridge baseline: its model has none, or the run is older than "
                "that; choose another layer."
            )
            raise SettingsError(msg)
        return self._kept

    def _score(self, layer: Layer) -> Values:
        """Mean over genes of the z-score over spots; a gene that is the same everywhere counts 0.

        Gene by gene, since a sum of large weights times values would lose the digits.
        """
        total = np.zeros(len(self._positions), dtype=np.float32)
        z = np.empty_like(total)
        if len(layer.genes) > _MOST_SINGLE_GENES:
            _ = self.prediction.mean  # all genes at once are read sooner than so many one by one
        for gene in layer.genes:
            row = self._row("mean", gene)
            middle, scale = _moments(row)
            np.subtract(row, middle, out=z)
            z *= scale
            total += z
        total /= np.float32(len(layer.genes))
        return total


def check_measured(measured: Values, shape: tuple[int, ...]) -> None:
    """Refuse measured values that are not of a result's (spots, genes).

    Raises
    ------
    SettingsError
        Their shape is another, or they are not floating point numbers.
    """
    if measured.shape != shape or not np.issubdtype(measured.dtype, np.floating):
        msg = (
            f"The measured values have the shape {measured.shape} and the result has "
            f"{shape[0]:,} spots and {shape[1]:,} genes; add a section that fits it."
        )
        raise SettingsError(msg)


def _moments(row: Values) -> tuple[np.float32, np.float32]:
    """Return mean and 1 / standard deviation of a gene; 0 for one that is the same everywhere."""
    middle = np.float32(row.mean(dtype=np.float64))
    spread = math.sqrt(float(np.square(row - middle).mean(dtype=np.float64)))
    varies = spread > 1e-6 * max(1.0, abs(float(middle)))
    return middle, np.float32(1.0 / spread if varies else 0.0)


def _frozen(values: Values) -> Values:
    values = values.view()
    values.flags.writeable = False
    return values
