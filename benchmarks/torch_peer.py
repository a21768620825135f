"""PyTorch trains a network of the project: python -m benchmarks.torch_peer NETWORK STEPS [eager] [compile]

Prints JSON: images per second of the training steps, by mode; operations per image; PyTorch's version. The modes, with
channels last in memory, are measured in alternation. A step is forward, cross-entropy, backward, and fused SGD with
Nesterov momentum, on one batch that does not change. There is no augmentation, no input pipeline, no validation and no
Muon, so the comparison favours PyTorch.
"""

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.flops import training_flops
from pipeline.common.errors import PipelineError
from pipeline.data.cifar10 import CHANNELS, SIDE
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS
from pipeline.registry.latency import seconds_in_turn

if TYPE_CHECKING:
    import keras
    import torch

CLASSES = 10
RATE = 0.01  # of SGD
STEPS = 12  # of each mode in the benchmark
LARGEST_DIFFERENCE = 1e-4  # of a probability, between Keras and PyTorch


def why_not() -> str | None:
    """Why PyTorch cannot be measured here, with the remedy; None if it can be."""
    if not find_spec("torch"):
        return "PyTorch is not installed. `.venv/bin/python -m pip install '.[torch]'` installs it"
    compiler = os.environ.get("CXX", "g++")
    if not shutil.which(compiler):
        return f"torch.compile needs a C++ compiler, but {compiler} was not found. Install it, or set CXX"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.is_file() else f"torch.compile needs {header}. Install the headers of Python (python3-dev)"


def main(name: str, steps: int, ways: list[str]) -> None:
    """Measure `steps` training steps in each mode, after one that is not timed, and print the figures."""
    import torch._dynamo  # before TensorFlow, because importing triton after it crashes

    start_keras()
    from benchmarks.torch_network import TorchNetwork
    from pipeline.training import devices

    network = NETWORKS[name]
    model = network.build(CLASSES, SIDE)
    require_equal(model, TorchNetwork(model))
    calls = {}
    for precision in sorted({"float32", devices.precision().removeprefix("mixed_")}, reverse=True):
        for way in ways:
            module = TorchNetwork(model).to(memory_format=torch.channels_last)
            forward = torch.compile(module) if way == "compile" else module
            calls[f"{way}, {precision}"] = training_step(module, forward, precision, network.batch_size)
    seconds = seconds_in_turn(calls, steps)
    figures = {
        "images_per_second": {mode: network.batch_size / float(np.median(each)) for mode, each in seconds.items()},
        "training_flops": training_flops(model),
        "torch": torch.__version__,
    }
    print(json.dumps(figures))


def training_step(
    module: "torch.nn.Module", forward: Callable[["torch.Tensor"], "torch.Tensor"], precision: str, size: int
) -> Callable[[], None]:
    """A function that runs one training step of `module` on `size` images.

    Args:
        forward: `module` itself, or compiled.
    """
    import torch

    images, labels = torch.from_numpy(random_images(size)), torch.arange(size) % CLASSES
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, RATE, momentum=0.9, nesterov=True, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = torch.nn.functional.nll_loss(forward(images), labels)
        loss.backward()
        optimizer.step()

    return step


def require_equal(model: "keras.Model", module: "torch.nn.Module") -> None:
    """Raise `PipelineError` if the probabilities of some images differ between Keras and PyTorch."""
    import torch

    images = random_images(8)
    with torch.no_grad():
        ours = module.eval()(torch.from_numpy(images)).exp().numpy()
    difference = float(np.abs(ours - model.predict(images, verbose=0)).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise PipelineError(
            f"probabilities of `{model.name}` differ by {difference:.2g} between Keras and PyTorch, expected at most "
            f"{LARGEST_DIFFERENCE}. Correct the translation of its layers in benchmarks/torch_network.py."
        )


def random_images(count: int) -> np.ndarray:
    """Random images, uint8 (count, 32, 32, 3): speed does not depend on their content."""
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, CHANNELS), np.uint8)


if __name__ == "__main__":
    name, steps, *ways = sys.argv[1:]
    main(name, int(steps), ways)
