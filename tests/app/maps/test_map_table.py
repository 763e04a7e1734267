"""The table behind the maps that are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.components.map_exports import map_table
from app.maps.layers import Layer
from app.maps.panels import Look, Mute, panels_of
from app.maps.run import Run
from app.maps.runs import open_values
from app.maps.scene import scene_of_run
from tests.app.maps.conftest import MadeRun


def test_each_map_is_a_column_with_its_unit(run: MadeRun) -> None:
    values = open_values(run.id)
    panels = panels_of(
        values, [Layer.of("mean", "A:B"), Layer("domain")], "Viridis", (1, 99), shared=True
    )
    panels[0] = replace(panels[0], mutes=(Mute(Layer("domain"), 0.5, "domain distance"),))
    table = map_table(scene_of_run(Run.open(run.id), panels, Look(), None))
    assert list(table) == [
        "spot", "x_um", "y_um", "mean:A:B [log2(1 + count)]", "mean:A:B greyed",
        "domain [× edge of training]",
    ]  # fmt: skip
    assert tuple(table["spot"]) == run.prediction.spots.ids
    np.testing.assert_allclose(table["x_um"], run.prediction.spots.x_px * 0.5, atol=0.01)
    np.testing.assert_array_equal(
        table["mean:A:B [log2(1 + count)]"], values.layer(values.parse("mean:A:B"))
    )
    np.testing.assert_array_equal(
        table["mean:A:B greyed"], values.layer(values.parse("domain")) > 0.5
    )
