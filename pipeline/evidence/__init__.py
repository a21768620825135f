"""Evidence about data and model: near duplicates, suspect labels, corruptions."""
