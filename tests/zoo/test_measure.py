import numpy as np

from stem_core.evaluation.evaluate import evaluate_section
from stem_core.training.held_out import _of_genes, describe_report
from tests.evaluation.made_section import GENES, made_input

SD = np.linspace(0.5, 1.0, GENES, dtype=np.float32)


def test_genes_that_were_not_measured_are_left_out_of_the_spread_too() -> None:
    kept = _of_genes(made_input(spreads={"ridge": SD}), range(0, GENES, 2))
    np.testing.assert_array_equal(kept.spreads["ridge"], SD[::2])
    assert evaluate_section(kept).baselines["ridge"]["crps"] > 0


def test_what_is_printed_names_a_crps_only_where_there_is_one() -> None:
    stem, mean, ridge = describe_report(
        evaluate_section(made_input(spreads={"ridge": SD}))
    ).splitlines()
    assert "CRPS" in stem and "CRPS" in ridge and "90 % band" in ridge
    assert "CRPS" not in mean and "MAE" in mean
