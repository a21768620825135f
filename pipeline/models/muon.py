"""The Muon optimizer for convolution kernels, with Adam for all other weights; and the one-cycle schedule.

Muon makes each update of a kernel orthogonal, so all directions are learnt about equally fast.
Source: https://kellerjordan.github.io/posts/muon. keras.optimizers.Muon (3.15) does not serve here:
it updates kernels with four axes by Adam.
"""

import keras
from keras import ops

UPDATE_SIZE = 0.2  # root mean square of the elements per unit of learning rate, as in Adam (arXiv 2502.16982)
NEWTON_SCHULZ_STEPS = 3
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Keller Jordan's coefficients


class Muon(keras.optimizers.Adam):
    """Orthogonalized Nesterov momentum for weights with four axes, and Adam for biases, normalization and dense layers.

    Args:
        learning_rate: a number, or a schedule of keras.optimizers.schedules.
        momentum: share of the earlier gradients' sum that stays after each step.
        adam_share: of the learning rate, for Adam.
        fixed_norm: scale each kernel to the norm of an orthogonal matrix before its update, so that a step turns it by
            an angle of about the learning rate (arXiv 2404.00498). Otherwise its norm is free, and an update has the
            size of Adam's.
        settings: of keras.optimizers.Adam. `weight_decay` is decoupled (AdamW), and not for biases and normalization.
    """

    def __init__(
        self,
        learning_rate: float,
        momentum: float = 0.9,
        adam_share: float = 0.3,
        fixed_norm: bool = False,
        name: str = "muon",
        **settings: float,
    ) -> None:
        super().__init__(learning_rate, name=name, **{"beta_2": 0.99} | settings)
        self._momentum, self._adam_share, self._fixed_norm = momentum, adam_share, fixed_norm
        self.exclude_from_weight_decay(var_names=["beta", "gamma", "bias"])

    def build(self, variables: list[keras.Variable]) -> None:
        """Create a momentum for each weight, and Adam's second moment only for weights that it updates: half the memory."""
        if self.built:
            return
        super(keras.optimizers.Adam, self).build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        self._velocities = [None] * len(variables)
        for index, variable in enumerate(variables):
            if not is_kernel(variable):
                (self._velocities[index],) = self.add_optimizer_variables([variable], "velocity")

    def update_step(self, gradient: "keras.KerasTensor", variable: keras.Variable, learning_rate: float) -> None:
        """Update one weight."""
        if not is_kernel(variable):
            super().update_step(gradient, variable, self._adam_share * learning_rate)
            return
        past = self._momentums[self._get_variable_index(variable)]
        self.assign(past, self._momentum * past + gradient)
        rows, columns = variable.shape[0] * variable.shape[1] * variable.shape[2], variable.shape[3]
        update = orthogonal(ops.reshape(gradient + self._momentum * past, (rows, columns)))
        if self._fixed_norm:
            norm, size = ops.norm(ops.reshape(variable, (-1,))), learning_rate
            self.assign(variable, variable * (columns**0.5 / (norm + 1e-7)))
        else:
            size = learning_rate * UPDATE_SIZE * max(rows, columns) ** 0.5
        self.assign_sub(variable, size * ops.reshape(update, variable.shape))


def is_kernel(variable: keras.Variable) -> bool:
    """Whether a weight is the kernel of a convolution, which has four axes."""
    return len(variable.shape) == 4


def orthogonal(matrix: "keras.KerasTensor") -> "keras.KerasTensor":
    """A matrix (m, n) with the same singular vectors and with singular values near 1.

    Newton-Schulz iteration: a polynomial, made of matrix products only, moves singular values in (0, 1] towards 1.
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
    """Linear increase from 0 in the first third of the steps, then linear decrease to 0."""

    def __init__(self, highest: float, steps: int) -> None:
        self._highest, self._steps = highest, steps

    def __call__(self, step: "keras.KerasTensor") -> "keras.KerasTensor":
        done = (ops.cast(step, "float32") + 0.5) / self._steps
        return self._highest * ops.minimum(3 * done, 1.5 * (1 - done))
