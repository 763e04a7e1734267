"""From patches to embeddings, and to the condition of a spot."""
