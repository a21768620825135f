"""Weights for classes with unequal numbers of images."""

import numpy as np


def balanced_class_weight(labels: np.ndarray) -> dict[int, float]:
    """The weight of each class in `labels`, integers (n,): n / (number of classes x images of the class).

    So all classes have the same weight together, and the mean weight of an image is 1.
    """
    from sklearn.utils.class_weight import compute_class_weight

    classes = np.unique(labels)
    return dict(
        zip(classes.tolist(), compute_class_weight("balanced", classes=classes, y=labels).tolist(), strict=True)
    )
