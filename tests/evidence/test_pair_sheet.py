import numpy as np
from toy_models import paint

from pipeline.evidence.matching import Pairs
from pipeline.evidence.pair_sheet import draw_pair_sheet


def test_an_empty_sheet_contains_a_message():
    no_pairs = Pairs(np.empty(0, int), np.empty(0, int), np.empty(0))
    split = paint(2)
    assert (np.asarray(draw_pair_sheet(no_pairs, split, split, 4)) < 128).any()
