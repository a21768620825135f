import numpy as np
from toy_models import paint

from pipeline.evidence.matching import Pairs
from pipeline.evidence.pair_sheet import draw_pair_sheet


def test_images_of_any_side_have_tiles_of_one_size():
    pairs = Pairs(np.arange(3), np.arange(3), np.ones(3))
    sizes = {draw_pair_sheet(pairs, paint(3, side=side), paint(3, side=side), 4).size for side in (16, 32, 48, 128)}
    assert len(sizes) == 1


def test_an_empty_sheet_contains_a_message():
    no_pairs = Pairs(np.empty(0, int), np.empty(0, int), np.empty(0))
    split = paint(2)
    assert (np.asarray(draw_pair_sheet(no_pairs, split, split, 4)) < 128).any()
