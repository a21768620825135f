import numpy as np

from pipeline.data.archive import read_archive
from pipeline.data.synthetic import CLASS_NAMES, generate, write_archive


def test_images_are_balanced_and_use_the_whole_range():
    images, labels = generate(200, seed=0)
    assert (images.shape, images.dtype) == ((200, 32, 32, 3), np.uint8)
    assert np.bincount(labels).tolist() == [20] * 10
    assert (images.min(), images.max()) == (0, 255)


def test_equal_seeds_give_equal_archives_that_the_pipeline_reads(tmp_path):
    for name in ("a", "b"):
        write_archive(tmp_path / name, images_per_batch=20, seed=5)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    data = read_archive(tmp_path / "a")
    images, labels = generate(20, [5, 5])
    assert np.array_equal(data.test_images, images)
    assert np.array_equal(data.test_labels, labels)
    assert np.bincount(data.train_labels).tolist() == [10] * 10
    assert data.class_names == list(CLASS_NAMES)
