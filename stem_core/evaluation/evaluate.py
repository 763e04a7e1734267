"""Evaluate the prediction of one section: all figures of the model, its draws and baselines."""

from __future__ import annotations

from stem_core.evaluation.records import EvaluationInput, SectionReport

__all__ = ["EvaluationInput", "SectionReport", "evaluate_section"]


def evaluate_section(given: EvaluationInput, *, seed: int = 0) -> SectionReport:
    """Evaluate the prediction of one section.

    Parameters
    ----------
    given
        The prediction, its draws and band where it has them, and baselines.
    seed
        Of the bootstrap.

    Returns
    -------
    SectionReport
    """
    raise NotImplementedError
