"""One training, measured in its own process: python -m benchmarks.train_one VARIANT SEED EPOCHS TRAIN VALIDATION [TEST]

Prints JSON: seconds of the fit, images per second, validation accuracy of the finished network, operations
per image, operations per second of matrix products before and after (the higher value counts), and
the time to make the batches without training, as a share of the fit. With TEST, for a finished network, also its
test accuracy, of the best epoch and after up to `POINTS` epochs; the seconds do not include these evaluations.
"""

import json
import math
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks.flops import matmul_peak, training_flops
from benchmarks.variants import OVERRIDES, VARIANTS
from pipeline.data.splits import Split, read_split
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS, Network
from pipeline.training.settings import TrainParams

POINTS = 12  # evaluations on test during a training, evenly spaced; those of a wide network take long


def main(
    variant: str, seed: int, epochs: int | None, train_split: Path, validation_split: Path, test_split: Path | None
) -> None:
    """Train a variant and print the figures; `epochs` None is the network's own number."""
    start_keras()
    from pipeline.training import devices, fit
    from pipeline.training.checkpoint import Checkpoint

    for place, value in OVERRIDES.get(variant, {}).items():
        module, name = place.split(".")
        setattr(import_module(f"pipeline.training.{module}"), name, value)
    network = NETWORKS["measured"] = VARIANTS[variant]
    training, validation = read_split(train_split), read_split(validation_split)
    test = read_split(test_split) if test_split else None
    trained, curve, pauses = network.build(len(training.class_names), training.side), [], 0.0
    evaluated = network.finish(trained)
    precision, total = devices.precision().removeprefix("mixed_"), epochs or network.epochs
    before = {name: matmul_peak(name) for name in {"float32", precision}}

    def end_epoch(checkpoint: Checkpoint) -> None:
        nonlocal pauses
        if test and len(checkpoint.rows) % math.ceil(total / POINTS) == 0:
            start = time.perf_counter()
            for variable, value in zip(trained.variables, checkpoint.state, strict=False):  # without the optimizer
                variable.assign(value)
            evaluated.set_weights(trained.get_weights())
            curve.append(
                {"seconds": checkpoint.seconds - pauses, "accuracy": fit.accuracy_and_loss(evaluated, test)[0]}
            )
            pauses += time.perf_counter() - start

    params = TrainParams.model_construct(
        model="measured",
        epochs=epochs,
        batch_size=None,
        learning_rate=None,
        class_weight=None,
        flip=None,
        shift=None,
        cutout=None,
        smoothing=None,
        seed=seed,
    )
    model, rows, seconds = fit.fit(params, training, validation, end_epoch)
    seconds -= pauses
    accuracy, loss = fit.accuracy_and_loss(model, validation)
    figures = {
        "epochs": len(rows),
        "seconds": seconds,
        "images_per_second": len(rows) * len(training.labels) / seconds,
        "validation_accuracy": accuracy,
        "validation_loss": loss,
        "training_flops": training_flops(trained),
        "precision": precision,
        "matmul_peaks": {name: max(peak, matmul_peak(name)) for name, peak in before.items()},
        "input_share": seconds_of_input(training, network) * len(rows) / seconds,
    }
    if test:
        figures |= {"accuracy": fit.accuracy_and_loss(model, test)[0], "curve": curve}
    print(json.dumps(figures))


def seconds_of_input(training: Split, network: Network) -> float:
    """Seconds to make the batches of one epoch without training, after the graph is built."""
    from pipeline.training.input_pipeline import steps_per_epoch, training_batches

    batches = iter(training_batches(training, network.batch_size, network.augmentation, 0, range(2)))
    steps = steps_per_epoch(len(training.labels), network.batch_size)
    for _ in range(steps):
        next(batches)
    start = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return time.perf_counter() - start


if __name__ == "__main__":
    name, seed, epochs, train_path, validation_path, *test_paths = sys.argv[1:]
    test_path = Path(test_paths[0]) if test_paths else None
    main(name, int(seed), int(epochs) or None, Path(train_path), Path(validation_path), test_path)
