"""Prediction, its result and its files."""
