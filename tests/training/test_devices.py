import pytest

from pipeline.models.keras_backend import start_keras

start_keras()

import tensorflow as tf  # noqa: E402 - Keras must have been started

from pipeline.training import devices  # noqa: E402


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("flags : fpu avx512f avx512_bf16 sse", "mixed_bfloat16"),
        ("flags : amx_bf16", "mixed_bfloat16"),
        ("flags : fpu avx512f avx512_bf16x", "float32"),
        ("", "float32"),
    ],
)
def test_bfloat16_is_for_processors_with_instructions_for_it(monkeypatch, flags, policy):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(devices, "processor_facts", lambda: flags)
    assert devices.precision() == policy


@pytest.mark.parametrize(
    ("capabilities", "policy"), [([(8, 0), (9, 0)], "mixed_bfloat16"), ([(9, 0), (7, 5)], "float32")]
)
def test_bfloat16_is_for_gpus_that_all_support_it_and_the_processor_does_not_matter(monkeypatch, capabilities, policy):
    """The test needs no GPU: TensorFlow's answers are replaced."""
    gpus = list(range(len(capabilities)))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capabilities[gpu]}
    )
    monkeypatch.setattr(devices, "processor_facts", lambda: "avx512_bf16" if policy == "float32" else "")
    assert devices.precision() == policy


def test_training_is_on_the_processor_if_there_is_no_gpu(monkeypatch):
    listed = tf.config.list_logical_devices
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [] if kind == "GPU" else listed(kind))
    assert devices.names() == ["CPU:0"]
    assert devices.strategy().num_replicas_in_sync == 1
