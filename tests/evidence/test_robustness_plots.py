import pytest

from pipeline.evidence.robustness_plots import spread


def test_names_that_would_overlap_are_moved_apart_and_others_stay():
    assert spread([0.9, 0.5, 0.5, 0.1], 0.1) == pytest.approx([0.9, 0.55, 0.45, 0.1])
