"""Noise schedule, denoiser, samplers and the regression mean."""
