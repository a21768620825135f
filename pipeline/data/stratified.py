"""Stratified, seeded choices of images."""

import numpy as np


def proportional(counts: np.ndarray, total: int) -> np.ndarray:
    """Integers in proportion to `counts` with the sum `total`; the largest remainders are rounded up.

    A class with few images has a share of 1 instead of 0, at the cost of the largest share.
    """
    exact = counts * total / counts.sum()
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    for small in np.flatnonzero((shares == 0) & (counts > 0)):
        shares[shares.argmax()] -= 1
        shares[small] = 1
    return shares


def stratified_choice(labels: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Which images to choose, bool (n,): of each class as many as `shares`, integers (classes,), drawn with `seed`."""
    generator = np.random.default_rng(seed)
    is_chosen = np.zeros(len(labels), bool)
    for label, share in enumerate(shares):
        is_chosen[generator.choice(np.flatnonzero(labels == label), share, replace=False)] = True
    return is_chosen
