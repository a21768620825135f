import numpy as np
import pytest

from pipeline.models.keras_backend import start_keras

keras = start_keras()

from pipeline.models.muon import Muon, OneCycle, orthogonal  # noqa: E402


@pytest.mark.parametrize("shape", [(4, 4), (27, 64), (576, 128)])
def test_singular_values_are_near_one_and_singular_vectors_stay(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    result = orthogonal(matrix).numpy()
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    values = np.diag(left.T @ result @ right.T)
    assert 0.1 < values.min() < values.max() < 1.3
    np.testing.assert_allclose(left @ np.diag(values) @ right, result, atol=1e-3)


def test_a_gradient_of_zeros_changes_nothing():
    assert not np.any(orthogonal(np.zeros((9, 4), np.float32)).numpy())


def test_updates_of_kernels_do_not_depend_on_the_gradients_size_and_others_are_adams():
    moved = {}
    for size in (1e-3, 1e3):
        kernel = keras.Variable(np.zeros((3, 3, 8, 16), np.float32))
        bias = keras.Variable(np.zeros(4, np.float32))
        gradient = np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32) * size
        Muon(0.1).apply([gradient, np.full(4, size, np.float32)], [kernel, bias])
        moved[size] = kernel.numpy()
        assert bias.numpy() == pytest.approx(np.full(4, -0.03), rel=1e-3)  # a first step of Adam is its rate
    np.testing.assert_allclose(moved[1e-3], moved[1e3], atol=1e-5)
    assert np.sqrt((moved[1e3] ** 2).mean()) == pytest.approx(0.1 * 0.2, rel=0.3)


def test_only_weights_of_adam_have_a_second_moment():
    kernel, bias = keras.Variable(np.ones((3, 3, 4, 8))), keras.Variable(np.ones(8))
    optimizer = Muon(0.1)
    optimizer.build([kernel, bias])
    shapes = sorted(tuple(variable.shape) for variable in optimizer.variables if len(variable.shape))
    assert shapes == [(3, 3, 4, 8), (8,), (8,)]


def test_kernels_follow_nesterov_momentum():
    gradients = np.random.default_rng(0).normal(size=(2, 1, 1, 6, 4)).astype(np.float32)
    kernel = keras.Variable(np.zeros((1, 1, 6, 4), np.float32))
    muon = Muon(1.0)
    momentum, expected = 0.0, np.zeros((6, 4), np.float32)
    for gradient in gradients:
        muon.apply([gradient], [kernel])
        momentum = 0.9 * momentum + gradient[0, 0]
        expected -= 0.2 * 6**0.5 * orthogonal(gradient[0, 0] + 0.9 * momentum).numpy()
    np.testing.assert_allclose(kernel.numpy()[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("share", [0.6, 0.0])
def test_a_kernel_of_fixed_norm_is_scaled_before_it_is_turned(share):
    gradients = np.random.default_rng(0).normal(size=(3, 1, 1, 6, 4)).astype(np.float32)
    start = np.random.default_rng(1).normal(size=(1, 1, 6, 4)).astype(np.float32)
    kernels = [keras.Variable(start * size) for size in (1, 100)]  # the size at the start does not matter
    muon = Muon(0.1, momentum=share, fixed_norm=True, weight_decay=0.1)
    momentum, expected = 0.0, start[0, 0]
    for gradient in gradients:
        muon.apply([gradient, gradient], kernels)
        momentum = share * momentum + gradient[0, 0]
        expected = expected * (4**0.5 / np.linalg.norm(expected))
        expected = expected - 0.1 * orthogonal(gradient[0, 0] + share * momentum).numpy()
    for kernel in kernels:
        np.testing.assert_allclose(kernel.numpy()[0, 0], expected, atol=1e-5)


def test_a_kernel_of_zeros_and_fixed_norm_stays_finite():
    kernel = keras.Variable(np.zeros((1, 1, 6, 4), np.float32))
    Muon(0.1, fixed_norm=True).apply([np.ones((1, 1, 6, 4), np.float32)], [kernel])
    assert np.isfinite(kernel.numpy()).all()


@pytest.mark.parametrize("name", ["bias", "beta", "gamma"])
def test_weight_decay_changes_kernels_but_not_biases_and_normalization(name):
    kernel = keras.Variable(np.ones((3, 3, 2, 2), np.float32), name="kernel")
    bias = keras.Variable(np.ones(4, np.float32), name=name)
    zeros = [np.zeros(variable.shape, np.float32) for variable in (kernel, bias)]
    Muon(0.1, weight_decay=0.5).apply(zeros, [kernel, bias])
    np.testing.assert_allclose(kernel.numpy(), np.full(kernel.shape, 0.95), rtol=1e-6)
    assert (bias.numpy() == 1).all()


def test_one_cycle_rises_for_a_third_of_the_steps_and_then_falls_to_zero():
    rates = [float(OneCycle(0.3, 30)(step)) for step in range(30)]
    np.testing.assert_allclose(rates[:10], [0.03 * (step + 0.5) for step in range(10)], rtol=1e-5)
    np.testing.assert_allclose(rates[10:], [0.015 * (29.5 - step) for step in range(10, 30)], rtol=1e-5)
    assert max(rates) <= 0.3
