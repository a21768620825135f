"""The data set: archive format, splits, mirrors, synthetic images and image grids."""
