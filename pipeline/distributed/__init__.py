"""Work for several machines: Ray, storage that all of them reach, and the classification of many pictures."""
