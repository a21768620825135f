"""One training of the project's, measured in a process of its own.

python -m benchmarks.train_one VARIANT SEED EPOCHS TRAIN VALIDATION [TEST] prints JSON: seconds of the fit, images per
second, validation accuracy of the kept epoch, operations per image, how many of them a second the machine's matrix
products make in each precision (just before and after), and the share of the time that making batches takes by itself. With TEST, for a
finished network, also its accuracy there of the kept epoch and after each epoch; the time that takes is not counted.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.flops import matmul_peak, training_flops
from benchmarks.variants import EXECUTIONS, VARIANTS
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS, Network
from pipeline.splits import Split, read_split
from pipeline.train import TrainParams


def main(
    variant: str, seed: int, epochs: int | None, training: Path, validation: Path, test: Path | None = None
) -> None:
    """Train and print the figures."""
    start_keras()
    from pipeline import devices, fit
    from pipeline.checkpoint import Checkpoint

    for name, value in EXECUTIONS.get(variant, {}).items():
        setattr(fit, name, value)
    network = NETWORKS["measured"] = VARIANTS[variant]
    splits, tested = (read_split(training), read_split(validation)), read_split(test) if test else None
    scored, curve, aside = network.build(len(splits[0].class_names)), [], 0.0
    precision = devices.precision().removeprefix("mixed_")
    before = {name: matmul_peak(name) for name in {"float32", precision}}

    def end_epoch(checkpoint: Checkpoint) -> None:
        nonlocal aside
        start = time.perf_counter()
        for variable, value in zip(scored.variables, checkpoint.state, strict=False):  # the optimizer's follow them
            variable.assign(value)
        curve.append({"seconds": checkpoint.seconds - aside, "accuracy": fit.score(scored, tested)[0]})
        aside += time.perf_counter() - start

    params = TrainParams.model_construct(
        model="measured", epochs=epochs, batch_size=None, learning_rate=None, seed=seed
    )
    model, rows, seconds = fit.fit(params, *splits, *([end_epoch] if tested else []))
    seconds -= aside
    figures = {
        "seconds": seconds,
        "images_per_second": len(rows) * len(splits[0].labels) / seconds,
        "validation_accuracy": fit.best_row(rows)["validation_accuracy"],
        "validation_loss": fit.best_row(rows)["validation_loss"],
        "training_flops": training_flops(model),
        "precision": precision,
        "matmul_peaks": {name: max(peak, matmul_peak(name)) for name, peak in before.items()},
        "input_share": seconds_of_input(splits[0], network) * len(rows) / seconds,
    }
    print(json.dumps(figures | ({"accuracy": fit.score(model, tested)[0], "curve": curve} if tested else {})))


def seconds_of_input(training: Split, network: Network) -> float:
    """Seconds that making an epoch's batches takes by itself, the graph for it once built."""
    from pipeline.batches import steps_per_epoch, training_batches

    batches = iter(training_batches(training, network.batch_size, network.augmentation, 0, range(2)))
    steps = steps_per_epoch(len(training.labels), network.batch_size)
    for _ in range(steps):
        next(batches)
    start = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return time.perf_counter() - start


if __name__ == "__main__":
    name, seed, epochs, *paths = sys.argv[1:]
    main(name, int(seed), int(epochs) or None, *map(Path, paths))
