"""Models by name: manifest, weights, verification, training recipes."""
