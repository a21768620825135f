"""Facts about CIFAR-10, https://www.cs.toronto.edu/~kriz/cifar.html"""

import re

OFFICIAL_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
SIDE = 32  # pixels; height and width of an image
CHANNELS = 3  # red, green, blue


def data_name(name: str | None, archive_sha256: str) -> str:
    """The displayed name of the data set: "CIFAR-10" only if the archive is the official one."""
    if archive_sha256 == OFFICIAL_SHA256:
        return "CIFAR-10"
    is_own_name = re.sub(r"[^a-z0-9]", "", (name or "").lower()) not in ("", "cifar10")
    return name if name and is_own_name else f"archive {archive_sha256[:8]}"
