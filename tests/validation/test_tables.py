import numpy as np
import pandas as pd

from pipeline.data.splits import Split
from pipeline.validation.image_statistics import image_statistics
from pipeline.validation.tables import BLOCK, class_table, image_table, part_table, split_table


def split(images, labels=None, first=0):
    labels = np.zeros(len(images), np.uint8) if labels is None else np.array(labels, np.uint8)
    names = np.array(["cat", "dog"])
    return Split(np.array(images, np.uint8), labels, np.arange(first, first + len(images), dtype=np.int32), names, "")


def plain(red, green, blue):
    return np.full((32, 32, 3), (red, green, blue))


def test_image_table_has_the_values_of_numpy():
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    table = image_table({"train": split(images)})
    scaled = images / 255
    np.testing.assert_allclose(table[["red", "green", "blue"]], scaled.mean((1, 2)))
    np.testing.assert_allclose(table["spread"], scaled.reshape(7, -1).std(1))
    assert table["lowest"].tolist() == images.min((1, 2, 3)).tolist()


def test_every_statistic_is_in_the_row_of_its_image():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    table = image_table({"train": split(images[:1]), "test": split(images[1:], first=1)})
    for name, values in image_statistics(images).items():
        np.testing.assert_allclose(table[name], values, atol=2e-6)


def test_images_mapped_from_a_file_give_the_same_table_in_any_number_of_blocks(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (45, 128, 128, 3), np.uint8)
    assert images.nbytes > BLOCK
    np.save(tmp_path / "images.npy", images)
    mapped = split(images)._replace(images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    table = image_table({"train": mapped})
    pd.testing.assert_frame_equal(table, image_table({"train": split(images)}))
    one_by_one = pd.concat([image_table({"train": split(images[i : i + 1], first=i)}) for i in range(45)])
    pd.testing.assert_frame_equal(table, one_by_one.reset_index(drop=True), atol=1e-5)


def test_equal_images_are_counted_across_splits_and_within_them():
    one, two = plain(1, 2, 3), plain(4, 5, 6)
    table = image_table({"train": split([one, two, two]), "test": split([one], first=3)})
    assert table["splits_with_these_pixels"].tolist() == [2, 1, 1, 2]
    assert table["images_with_these_pixels"].tolist() == [2, 2, 2, 2]


def test_part_table_joins_train_and_validation():
    images = image_table(
        {
            "train": split([plain(0, 0, 0)]),
            "validation": split([plain(255, 0, 51)], first=1),
            "test": split([plain(9, 9, 9)], first=2),
        }
    )
    training = part_table(images).set_index("part").loc["training"]
    assert training[["lowest", "highest"]].tolist() == [0, 255]
    np.testing.assert_allclose(
        training[["red", "red_spread", "blue", "red_minus_blue"]].astype(float), [0.5, 0.5, 0.1, 0.4]
    )


def test_class_table_counts_a_class_that_is_missing():
    images = image_table({"train": split([plain(0, 0, 0)] * 3, labels=[1, 1, 1])})
    assert class_table(images, np.array(["cat", "dog"])).values.tolist() == [
        ["training", "cat", 0, 0.0],
        ["training", "dog", 3, 2.0],
    ]


def test_split_table_has_shape_and_type():
    table = split_table({"train": split(np.zeros((2, 32, 31, 3)))})
    assert table.to_dict("records") == [
        {"split": "train", "images": 2, "height": 32, "width": 31, "channels": 3, "dtype": "uint8"}
    ]
