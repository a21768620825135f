import numpy as np
import pytest
from scenes import scenes

from pipeline.data.synthetic import generate
from pipeline.evidence.corruptions import CORRUPTIONS, SEVERITIES, corrupted

IMAGES, _ = generate(40, seed=3)
GREY = np.full((2, 32, 32, 3), 100, np.uint8)


@pytest.fixture
def point():
    """A black image with one white pixel in row 10, column 20."""
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 10, 20] = 255
    return image


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_changes_images_more_and_equal_arguments_give_equal_pixels(name):
    results = [corrupted(IMAGES, name, severity, [0]) for severity in SEVERITIES]
    assert {(each.shape, each.dtype.name) for each in results} == {((40, 32, 32, 3), "uint8")}
    differences = [np.abs(each.astype(float) - IMAGES).mean() for each in results]
    assert 0 < differences[0] < differences[1] < differences[2]
    assert np.array_equal(corrupted(IMAGES, name, 2, [0]), results[1])


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [16, 50, 128])
def test_images_of_any_side_keep_it_and_change_more_at_a_higher_severity(name, side):
    images = scenes(4, seed=0, side=side)
    results = [corrupted(images, name, severity, [0]) for severity in SEVERITIES]
    assert {(each.shape, each.dtype.name) for each in results} == {((4, side, side, 3), "uint8")}
    differences = [np.abs(each.astype(float) - images).mean() for each in results]
    assert 0 < differences[0] < differences[1] < differences[2]


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("blur", 32, "sigma 0.9 pixels"),
        ("blur", 100, "sigma 2.81 pixels"),
        ("shift", 32, "by 8 pixels"),
        ("shift", 50, "by 12 pixels"),
        ("pixelate", 48, "24 x 24 pixels"),
        ("occlusion", 16, "6 x 6 pixels"),
        ("noise", 128, "± 20 grey levels"),
        ("fog", 128, "density 50%"),
    ],
)
def test_lengths_are_in_proportion_to_the_side_and_other_parameters_are_not(name, side, expected):
    assert CORRUPTIONS[name].description.format(CORRUPTIONS[name].value(2, side)) == expected


@pytest.mark.parametrize("name", ["noise", "fog", "shift", "occlusion"])
def test_random_corruptions_depend_on_the_seed(name):
    assert not np.array_equal(corrupted(IMAGES, name, 1, [0]), corrupted(IMAGES, name, 1, [1]))


@pytest.mark.parametrize("name", ["blur", "contrast", "brightness", "darkness", "jpeg", "pixelate"])
def test_an_image_in_a_batch_is_corrupted_as_it_is_alone(name):
    together = corrupted(IMAGES, name, 3, [0])
    alone = np.concatenate([corrupted(IMAGES[i : i + 1], name, 3, [0]) for i in range(len(IMAGES))])
    assert np.abs(together.astype(int) - alone).max() <= (0 if name == "jpeg" else 1)  # sums can round differently


def test_a_block_of_jpeg_does_not_cross_images_of_a_side_that_is_no_multiple_of_8():
    images = np.stack([np.zeros((20, 20, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)])
    assert np.ptp(corrupted(images, "jpeg", 3, [0]), axis=(1, 2)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_noise_has_the_given_deviation_in_grey_levels():
    added = corrupted(np.full((200, 32, 32, 3), 128, np.uint8), "noise", 2, [0]).astype(float) - 128
    assert added.std() == pytest.approx(20, rel=0.01)
    assert added.mean() == pytest.approx(0, abs=0.1)


def test_blur_spreads_a_point_symmetrically_and_keeps_its_sum(point):
    result = corrupted(point, "blur", 2, [0])[0, :, :, 0].astype(float)
    assert np.unravel_index(result.argmax(), result.shape) == (10, 20)
    assert result[9, 20] == result[11, 20] == result[10, 19] == result[10, 21] > result[9, 19] > 0
    assert result.sum() == pytest.approx(255, rel=0.05)


def test_fog_is_bright_and_uneven():
    result = corrupted(GREY, "fog", 2, [0]).astype(float)
    share = (result - 100) / (220 - 100)
    assert share.mean() == pytest.approx(0.5, abs=0.1)
    assert share.min() > 0.2
    assert share.max() - share.min() > 0.2
    assert (result == result[..., :1]).all()  # fog has no colour


@pytest.mark.parametrize(
    ("name", "expected"),
    [("contrast", [100 - 15, 100 + 15]), ("brightness", [50 + 60, 150 + 60]), ("darkness", [20, 60])],
)
def test_contrast_brightness_and_darkness_change_pixels_by_the_given_amount(name, expected):
    halves = np.repeat(np.array([50, 150], np.uint8), 16 * 32 * 3).reshape(1, 32, 32, 3)
    assert np.unique(corrupted(halves, name, 2, [0])).tolist() == expected


def test_pixels_above_255_are_clipped_and_do_not_wrap():
    assert corrupted(np.full((1, 32, 32, 3), 250, np.uint8), "brightness", 3, [0]).min() == 255


@pytest.mark.parametrize(("severity", "pixels"), [(2, 16), (3, 12)])
def test_a_pixelated_image_has_the_given_number_of_squares_with_their_mean(severity, pixels):
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None] * 8, (1, 32, 32, 3))
    result = corrupted(ramp, "pixelate", severity, [0])[0, :, 0, 0]
    assert len(np.unique(result)) == pixels
    assert result.mean() == pytest.approx(ramp.mean(), abs=1.5)
    if pixels == 16:
        assert result[:4].tolist() == [4, 4, 20, 20]  # means of 0, 8 and of 16, 24


def test_a_shift_moves_all_pixels_by_the_given_distance_and_reflects_the_rest():
    rows = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None], (50, 32, 32, 3))
    columns = rows.transpose(0, 2, 1, 3)
    down = corrupted(rows, "shift", 2, [0])[:, 16, 16, 0].astype(int) - 16  # the source of the middle pixel
    across = corrupted(columns, "shift", 2, [0])[:, 16, 16, 0].astype(int) - 16
    assert np.hypot(down, across) == pytest.approx(8, abs=0.75)  # rounded to whole pixels
    assert min(down.min(), across.min()) < -6
    assert max(down.max(), across.max()) > 6
    up = int(down.argmax())
    assert corrupted(rows, "shift", 2, [0])[up, -1, 0, 0] == 32 - down[up]  # reflected at the border


def test_an_occlusion_is_a_complete_square_of_grey():
    result = corrupted(np.zeros((50, 32, 32, 3), np.uint8), "occlusion", 2, [0])[..., 0]
    assert np.unique(result).tolist() == [0, 128]
    hidden = result > 0
    assert (hidden.sum((1, 2)) == 12 * 12).all()
    assert (hidden.any(1).sum(1) == 12).all()
    assert len(np.unique(hidden.any(2).argmax(1))) > 10
