import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from stem_core.evaluation.evaluate import evaluate_section
from stem_core.training.held_out import keep_report, kept_report
from tests.evaluation.made_section import made_input


def test_a_kept_report_says_how_baselines_were_set(tmp_path: Path) -> None:
    given = replace(
        made_input(),
        spreads={"ridge": np.full(24, 0.8, np.float32)},
        baseline_settings={"ridge": {"penalty": 300.0}},
        baselines_chosen="Chosen so.",
    )
    path = tmp_path / "held-out.json"
    keep_report(evaluate_section(given), path, "key")
    kept = kept_report(path, "key")
    assert kept is not None
    assert kept.baseline_settings == {"ridge": {"penalty": 300.0}}
    assert kept.baselines_chosen == "Chosen so." and "crps" in kept.baselines["ridge"]
    assert kept_report(path, "another") is None
    # one from before, when a baseline's CRPS was its MAE, is measured again
    said = json.loads(path.read_text())
    for name in ("baseline_settings", "baselines_chosen"):
        del said["report"][name]
    path.write_text(json.dumps(said))
    assert kept_report(path, "key") is None
