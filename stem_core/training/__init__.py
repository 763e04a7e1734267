"""Fit models on measured sections."""
