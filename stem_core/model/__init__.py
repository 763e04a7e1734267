"""The model: its description, its networks in memory, and its folder on disk."""
