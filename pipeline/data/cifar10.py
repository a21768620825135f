"""Facts about CIFAR-10 and CIFAR-100, https://www.cs.toronto.edu/~kriz/cifar.html"""

import re

OFFICIAL_ARCHIVES = {  # their SHA-256
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce": "CIFAR-10",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7": "CIFAR-100",
}
OFFICIAL_MEMBERS = {  # SHA-256 of the members of CIFAR-10's archive that contain data
    "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
}
SIDE = 32  # pixels; height and width of an image
UNEARNED = ("", "cifar10", "cifar10membersverified", "cifar100")  # names that other data cannot have
CHANNELS = 3  # red, green, blue


def data_name(name: str | None, archive_sha256: str, is_cifar10: bool) -> str:
    """The displayed name of the data set.

    It is "CIFAR-10" or "CIFAR-100" only if the archive is the official one, or `is_cifar10`: its members are, byte for
    byte.
    """
    if official := OFFICIAL_ARCHIVES.get(archive_sha256):
        return official
    if is_cifar10:
        return "CIFAR-10, members verified"
    is_own_name = re.sub(r"[^a-z0-9]", "", (name or "").lower()) not in UNEARNED
    return name if name and is_own_name else f"archive {archive_sha256[:8]}"
