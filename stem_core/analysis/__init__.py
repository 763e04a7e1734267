"""What a map says: gene sets, spatial patterns, regions, and how it compares with measurements."""
