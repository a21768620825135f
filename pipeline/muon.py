"""The Muon optimizer, for convolution kernels, with Adam for all other weights; and the one-cycle schedule.

Muon makes each update of a kernel orthogonal, so that no direction of it is learnt much faster
than another. Source: https://kellerjordan.github.io/posts/muon; Keras' own keras.optimizers.Muon
(3.15) leaves kernels of four axes to Adam.
"""

import keras
from keras import ops

MOMENTUM = 0.9
UPDATE_SIZE = 0.2  # of an element, root mean square, per unit of learning rate: as Adam's (arXiv 2502.16982)
ADAM_SHARE = 0.3  # of the learning rate, for biases, normalisation and the last layer
NEWTON_SCHULZ_STEPS = 3
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Keller Jordan's coefficients


class Muon(keras.optimizers.Adam):
    """Nesterov momentum, made orthogonal, for weights of four axes; the others as Adam with 0.3 of the rate.

    Args:
        learning_rate: a number, or a schedule of keras.optimizers.schedules.
        settings: of keras.optimizers.Adam. `weight_decay` is decoupled (AdamW) and spares biases and normalisation.
    """

    def __init__(self, learning_rate: float, name: str = "muon", **settings: float) -> None:
        super().__init__(learning_rate, name=name, **{"beta_2": 0.99} | settings)
        self.exclude_from_weight_decay(var_names=["beta", "gamma", "bias"])

    def update_step(self, gradient: "keras.KerasTensor", variable: keras.Variable, learning_rate: float) -> None:
        """Change one weight."""
        if len(variable.shape) != 4:
            super().update_step(gradient, variable, ADAM_SHARE * learning_rate)
            return
        momentum = self._momentums[self._get_variable_index(variable)]
        self.assign(momentum, MOMENTUM * momentum + gradient)
        rows, columns = variable.shape[0] * variable.shape[1] * variable.shape[2], variable.shape[3]
        update = orthogonal(ops.reshape(gradient + MOMENTUM * momentum, (rows, columns)))
        size = learning_rate * UPDATE_SIZE * max(rows, columns) ** 0.5
        self.assign_sub(variable, size * ops.reshape(update, variable.shape))


def orthogonal(matrix: "keras.KerasTensor") -> "keras.KerasTensor":
    """About the nearest matrix of the same shape (m, n) whose singular values are all near 1.

    Newton-Schulz iteration: a polynomial that pulls singular values in (0, 1] towards 1, by matrix
    products alone.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + 1e-7)  # no singular value above 1
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        product = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * product + c * ops.matmul(product, product), x)
    return ops.transpose(x) if tall else x


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises from 0 in the first third of the steps and falls to 0 in the rest, both in a straight line."""

    def __init__(self, highest: float, steps: int) -> None:
        self._highest, self._steps = highest, steps

    def __call__(self, step: "keras.KerasTensor") -> "keras.KerasTensor":
        done = (ops.cast(step, "float32") + 0.5) / self._steps
        return self._highest * ops.minimum(3 * done, 1.5 * (1 - done))
