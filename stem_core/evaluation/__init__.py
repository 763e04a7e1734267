"""How good a prediction is, and the baselines it has to beat."""
