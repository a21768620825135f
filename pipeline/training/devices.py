"""Devices, the precision of their matrix products, and the distribution strategy."""

import re

import tensorflow as tf

from pipeline.common.processor import processor_facts

BFLOAT16_GPU = (8, 0)  # compute capability from which tensor cores support bfloat16
BFLOAT16_PROCESSOR = re.compile(r"\b(avx512_bf16|amx_bf16)\b")  # instruction sets, as Linux names them


def names() -> list[str]:
    """The GPUs, or the CPU if there is none: "GPU:0"."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")[:1]
    return [device.name.removeprefix("/device:") for device in found]


def precision() -> str:
    """The Keras dtype policy that trains fastest: float32 weights, with bfloat16 products if the device has them."""
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
    able = min(capabilities) >= BFLOAT16_GPU if gpus else BFLOAT16_PROCESSOR.search(processor_facts())
    return "mixed_bfloat16" if able else "float32"


def strategy() -> tf.distribute.Strategy:
    """MirroredStrategy on several devices, each with a part of every batch; the default strategy on one."""
    return tf.distribute.MirroredStrategy(names()) if len(names()) > 1 else tf.distribute.get_strategy()
