import io

import numpy as np
import pytest
from PIL import Image

from pipeline.data.synthetic import generate
from pipeline.validation.image_statistics import STATISTICS, image_statistics


def plain(*colour):
    return np.full((1, 32, 32, 3), colour, np.uint8)


def test_a_plain_image_has_only_a_colour():
    found = {name: values[0] for name, values in image_statistics(plain(255, 0, 51)).items()}
    expected = dict.fromkeys(STATISTICS, 0.0) | {
        "brightness": 0.299 + 0.2 * 0.114,
        "red_cast": 0.9,
        "blue_cast": 0.2 - 0.5,
        "saturation": 1.0,
        "equal_neighbours": 1.0,
    }
    assert found == pytest.approx(expected, abs=2e-6)
    assert list(found) == list(STATISTICS)


def test_grey_images_have_no_colour_to_the_last_digit():
    """Rounding errors would make equal values differ on another machine."""
    grey = np.arange(256, dtype=np.uint8).repeat(32 * 32 * 3).reshape(256, 32, 32, 3)
    found = image_statistics(grey)
    assert set(found["saturation"]) | set(found["red_cast"]) | set(found["blue_cast"]) == {0.0}


def test_light_is_located():
    lit = np.repeat(plain(0, 0, 0), 3, axis=0)
    lit[0, :16] = lit[1, :, :16] = lit[2, 2:-2, 2:-2] = 255
    found = image_statistics(lit)
    assert found["top_light"].round(4).tolist() == [1, 0, 0]
    assert found["side_light"].round(4).tolist() == [0, 1, 0]
    assert found["frame_light"].round(4).tolist() == [0, 0, -1]
    assert found["edge_direction"].round(1).tolist() == [-0.9, 0.9, 0]


def jpeg(images, quality):
    found = np.empty_like(images)
    for place, image in enumerate(images):
        packed = io.BytesIO()
        Image.fromarray(image).save(packed, "JPEG", quality=quality)
        found[place] = np.asarray(Image.open(packed))
    return found


def blurred(images):
    grown = np.pad(images.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return ((grown[:, :-2, 1:-1] + grown[:, 2:, 1:-1] + grown[:, 1:-1, :-2] + grown[:, 1:-1, 2:]) / 4).astype(np.uint8)


DAMAGES = [
    # statistic, whether it increases, damage
    ("brightness", True, lambda images: np.minimum(images, 205) + 50),
    ("contrast", False, lambda images: images // 2 + 64),
    ("red_cast", True, lambda images: images // np.array([1, 2, 2], np.uint8)),
    ("blue_cast", True, lambda images: images // np.array([2, 2, 1], np.uint8)),
    ("saturation", False, lambda images: images[..., [1, 1, 1]]),
    ("sharpness", False, blurred),
    ("noise", False, blurred),
    ("fine_detail", False, lambda images: jpeg(images, 10)),
    ("blockiness", True, lambda images: jpeg(images, 10)),
    ("equal_neighbours", True, lambda images: images[:, ::2, ::2].repeat(2, 1).repeat(2, 2)),
    ("frame_light", False, lambda images: np.pad(images[:, 2:-2, 2:-2], ((0, 0), (2, 2), (2, 2), (0, 0)))),
    ("frame_contrast", False, lambda images: np.pad(images[:, 2:-2, 2:-2], ((0, 0), (2, 2), (2, 2), (0, 0)))),
]


@pytest.mark.parametrize(("statistic", "increases", "damage"), DAMAGES, ids=[f"{name}" for name, *_ in DAMAGES])
def test_a_damage_changes_its_statistic(statistic, increases, damage):
    images, _ = generate(40, seed=0)
    change = image_statistics(damage(images))[statistic] - image_statistics(images)[statistic]
    assert (change > 0 if increases else change < 0).mean() > 0.8


def test_rotation_changes_light_and_edges_and_mirroring_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    original, mirrored, rotated = (
        image_statistics(each) for each in (images, images[:, :, ::-1], np.rot90(images, 1, (1, 2)))
    )
    for name in set(STATISTICS) - {"blockiness"}:
        np.testing.assert_allclose(original[name], mirrored[name], atol=5e-3)
    np.testing.assert_allclose(rotated["edge_direction"], -original["edge_direction"], atol=2e-6)
    np.testing.assert_allclose(abs(rotated["top_light"]), original["side_light"], atol=2e-6)


@pytest.mark.parametrize("side", [16, 48, 51, 128])
def test_images_of_any_side_have_all_statistics(side):
    images = np.random.default_rng(0).integers(64, 192, (8, side, side, 3), np.uint8)
    lit = np.zeros((3, side, side, 3), np.uint8)
    lit[0, : side // 2] = lit[1, :, : side // 2] = lit[2, 2:-2, 2:-2] = 255
    found = image_statistics(lit)
    assert found["top_light"].round(4).tolist() == [1, 0, 0]
    assert found["side_light"].round(4).tolist() == [0, 1, 0]
    assert found["frame_light"] == pytest.approx([0, 0, -1], abs=0.01)  # an odd side has no exact half
    clean, damaged, mirrored = map(image_statistics, (images, jpeg(images, 10), images[:, :, ::-1]))
    assert (damaged["blockiness"] > clean["blockiness"]).all()
    assert (damaged["fine_detail"] < clean["fine_detail"]).all()
    np.testing.assert_allclose(clean["side_light"], mirrored["side_light"], atol=2e-6)


def test_pixels_outside_of_jpegs_whole_blocks_have_no_fine_detail():
    images = np.zeros((1, 20, 20, 3), np.uint8)
    images[:, 16::2] = images[:, :, 16::2] = 255
    assert image_statistics(images)["fine_detail"].tolist() == [0]
    assert image_statistics(images[:, ::-1, ::-1])["fine_detail"] > 0
