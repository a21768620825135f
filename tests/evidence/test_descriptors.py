import numpy as np
import pytest
from PIL import Image
from scenes import scenes

from pipeline.data.synthetic import generate
from pipeline.evidence.descriptors import correlation, edge_histograms, grey_images, mirrored


def test_mirrored_histograms_are_those_of_mirrored_images():
    images, _ = generate(20, seed=4)
    assert np.abs(mirrored(edge_histograms(images)) - edge_histograms(images[:, :, ::-1])).max() < 1e-5


@pytest.mark.parametrize("side", [16, 33, 48, 128])
def test_images_of_another_side_are_scaled_as_pillow_scales_them(side):
    levels = np.random.default_rng(0).integers(0, 256, (3, side, side), np.uint8)
    images, bilinear = levels[..., None].repeat(3, 3), Image.Resampling.BILINEAR
    expected = [np.asarray(Image.fromarray(each.astype(np.float32)).resize((32, 32), bilinear)) for each in levels]
    np.testing.assert_allclose(grey_images(images), expected, atol=0.01)


@pytest.mark.parametrize("side", [16, 48, 96])
def test_mirrored_histograms_are_those_of_mirrored_images_of_any_side(side):
    images = scenes(5, seed=4, side=side)
    assert np.abs(mirrored(edge_histograms(images)) - edge_histograms(images[:, :, ::-1])).max() < 1e-5


@pytest.mark.filterwarnings("error")
def test_detail_as_weak_as_re_encoding_causes_does_not_correlate():
    pattern = np.random.default_rng(0).integers(0, 2, (1, 32, 32, 1), dtype=np.uint8).repeat(3, 3)
    assert correlation(100 + pattern, 50 + pattern)[0] < 0.2
    assert correlation(100 + 60 * pattern, 50 + 30 * pattern)[0] == pytest.approx(1, abs=0.01)


def test_a_zoomed_copy_is_compared_at_its_own_scale():
    images = scenes(20, seed=3)
    copies = np.stack([np.asarray(Image.fromarray(image).resize((32, 32), box=(2, 2, 30, 30))) for image in images])
    assert correlation(images, copies).min() > 0.8  # at scale 1 the fine detail near the border does not match
    assert correlation(images, np.roll(images, 1, 0)).max() < 0.6
