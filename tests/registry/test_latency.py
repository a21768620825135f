import numpy as np

from pipeline.registry.latency import ROUNDS, figures, latency_table, seconds_in_turn


def test_calls_alternate_after_one_untimed_round():
    order = []
    seconds = seconds_in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert {name: each.shape for name, each in seconds.items()} == {"a": (3,), "b": (3,)}


def test_figures_are_milliseconds_and_images_per_second():
    assert figures(np.array([0.001, 0.002, 0.003]), 4) == {"p50_ms": 2.0, "p99_ms": 2.98, "images_per_second": 2000}


def test_each_model_is_called_with_each_number_of_images():
    sizes = {"one": [], "two": []}
    models = {name: lambda images, name=name: sizes[name].append(len(images)) for name in sizes}
    table = latency_table(models, np.zeros((100, 32, 32, 3), np.uint8))
    expected = [size for size, rounds in ROUNDS.items() for _ in range(rounds + 1)]
    assert sizes == {"one": expected, "two": expected}
    assert {name: list(row) for name, row in table.items()} == {name: ["batch_1", "batch_64"] for name in sizes}
