"""Open a slide, find its tissue, place spots on it, cut patches of a physical size."""
