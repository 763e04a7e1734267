"""The science: slides, encoders, diffusion, prediction, training, evaluation."""
