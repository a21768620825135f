"""Where training runs: the devices, the precision of products on them, and how several share the work."""

import re
from pathlib import Path

import tensorflow as tf

BFLOAT16_GPU = (8, 0)  # the compute capability from which tensor cores take bfloat16
BFLOAT16_PROCESSOR = re.compile(r"\b(avx512_bf16|amx_bf16)\b")  # as Linux names the instructions


def names() -> list[str]:
    """The GPUs if there are any, else the CPU: "GPU:0"."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")[:1]
    return [device.name.removeprefix("/device:") for device in found]


def precision() -> str:
    """The Keras dtype policy that trains fastest here with float32 weights: bfloat16 products where the device has them."""
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
    able = min(capabilities) >= BFLOAT16_GPU if gpus else BFLOAT16_PROCESSOR.search(processor_flags())
    return "mixed_bfloat16" if able else "float32"


def processor_flags() -> str:
    """What Linux says of the processor; empty elsewhere."""
    facts = Path("/proc/cpuinfo")
    return facts.read_text() if facts.exists() else ""


def strategy() -> tf.distribute.Strategy:
    """Equal copies of the network on several devices, each with a part of every batch; or plain training on one."""
    return tf.distribute.MirroredStrategy(names()) if len(names()) > 1 else tf.distribute.get_strategy()
