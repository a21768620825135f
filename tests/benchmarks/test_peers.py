"""The peers of the training: Keras' example and PyTorch."""

import json
import sys

import numpy as np
import pytest
from projects import ROOT

from benchmarks import torch_peer, training
from benchmarks.measure import measure
from benchmarks.resnet20 import augmented, resnet20
from benchmarks.training import measure_torch, measure_training
from pipeline.common.errors import PipelineError
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS


def test_resnet20_has_as_many_weights_as_the_example():
    start_keras()
    assert resnet20(10).count_params() == 274_442


def test_resnet20_trains_on_any_archive(archive):
    printed = measure([sys.executable, "-m", "benchmarks.resnet20", str(archive), "1"], ROOT).output
    figures = json.loads(printed.splitlines()[-1])
    assert figures["curve"][0]["accuracy"] == figures["accuracy"]
    assert figures["precision"] == "float32"


def test_shifts_and_flips_change_images_and_keep_labels():
    start_keras()
    images = np.zeros((64, 32, 32, 3), "float32")
    images[:, 10:20, 4:12] = np.arange(1, 65)[:, None, None, None]
    batches = [(x.numpy(), y.numpy()) for x, y in augmented(images, np.arange(64))]
    found, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert sorted(labels) == list(range(64))
    assert labels.tolist() != list(range(64))
    np.testing.assert_allclose(found.max(axis=(1, 2, 3)), labels + 1, rtol=0.01)
    centres = [np.argwhere(image[..., 0] > 0).mean(0) for image in found]
    rows, columns = np.transpose(centres)
    assert np.ptp(rows) > 1
    assert np.abs(rows - 14.5).max() < 3.7
    assert {bool(column > 16) for column in columns} == {True, False}


class Names:
    """Rows that only collect names."""

    def __init__(self):
        self.names = []

    def measure(self, name, how):
        self.names.append(name)


def test_networks_are_measured_with_each_seed_in_alternation_after_the_peers(monkeypatch):
    monkeypatch.setattr(training.torch_peer, "why_not", lambda: None)
    rows = Names()
    measure_training(rows, "archive", ["train", "validation", "test"], 2, ["fast", "accurate"])
    assert rows.names == [
        "the textbook script, seed 0",
        "ResNet20v1 of Keras' example, seed 0",
        "accurate in PyTorch",
        "fast, seed 0",
        "accurate, seed 0",
        "fast, seed 1",
        "accurate, seed 1",
    ]


def test_pytorch_is_measured_only_beside_its_network():
    rows = Names()
    measure_training(rows, "archive", ["train", "validation", "test"], 1, ["basic"])
    assert rows.names[-1] == "basic, seed 0"
    assert "accurate in PyTorch" not in rows.names


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("torch", "PyTorch is not installed. `.venv/bin/python -m pip install '.[torch]'` installs it"),
        ("compiler", "torch.compile needs a C++ compiler, but no-compiler was not found. Install it, or set CXX"),
        ("header", "torch.compile needs /nowhere/Python.h. Install the headers of Python (python3-dev)"),
    ],
)
def test_without_pytorch_or_its_compiler_the_benchmark_says_so_in_one_line(monkeypatch, capsys, missing, reason):
    monkeypatch.setattr(torch_peer, "find_spec", lambda name: None if missing == "torch" else name)
    monkeypatch.setenv("CXX", "no-compiler" if missing == "compiler" else sys.executable)
    monkeypatch.setattr(torch_peer.sysconfig, "get_path", lambda name: "/nowhere")
    rows = Names()
    measure_torch(rows)
    assert rows.names == []
    assert capsys.readouterr().out == f"bench: without rows of PyTorch: {reason}\n"


def test_pytorch_trains_a_network_and_reports_images_per_second_by_mode():
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    printed = measure([sys.executable, "-m", "benchmarks.torch_peer", "basic", "1", "eager"], ROOT).output
    figures = json.loads(printed.splitlines()[-1])
    assert figures["images_per_second"].keys() <= {"eager, float32", "eager, bfloat16"}
    assert min(figures["images_per_second"].values()) > 0


STEP = """
import torch._dynamo
from torch import nn
from benchmarks.torch_peer import training_step

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.Linear(8, 10), nn.LogSoftmax(-1))
network[1].requires_grad_(False)
before = [weight.clone() for weight in network.parameters()]
training_step(network, lambda images: network(images / 255), "float32", 20)()
print([bool((old == new).all()) for old, new in zip(before, network.parameters())])
"""


def test_a_step_of_pytorch_changes_all_weights_that_are_not_frozen():
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    assert measure([sys.executable, "-c", STEP], ROOT).output == "[True, True, False, False]\n"


def test_a_network_that_differs_from_its_translation_is_refused():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    start_keras()
    from benchmarks.torch_network import TorchNetwork

    model = NETWORKS["basic"].build(10, 32)
    module = TorchNetwork(model)
    torch_peer.require_equal(model, module)
    with torch.no_grad():
        next(iter(module.parameters())).add_(0.1)
    with pytest.raises(PipelineError, match=r"of `basic` differ by .* at most 0.0001.*benchmarks/torch_network.py"):
        torch_peer.require_equal(model, module)
