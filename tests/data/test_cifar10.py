import pytest

from pipeline.data.cifar10 import OFFICIAL_ARCHIVES, data_name

CIFAR10, CIFAR100 = OFFICIAL_ARCHIVES


@pytest.mark.parametrize(
    ("name", "sha256", "shown"),
    [
        ("anything", CIFAR10, "CIFAR-10"),
        ("CIFAR-10", CIFAR100, "CIFAR-100"),
        ("CIFAR-100", "1e2c9ab5" * 8, "archive 1e2c9ab5"),
        ("CIFAR-10", "1e2c9ab5" * 8, "archive 1e2c9ab5"),
        (" cifar 10", "1e2c9ab5" * 8, "archive 1e2c9ab5"),
        ("CIFAR-10, JPEG re-encoded", "1e2c9ab5" * 8, "CIFAR-10, JPEG re-encoded"),
        (None, "1e2c9ab5" * 8, "archive 1e2c9ab5"),
        ("CIFAR-10, members verified", "1e2c9ab5" * 8, "archive 1e2c9ab5"),
    ],
)
def test_only_the_official_archive_is_called_cifar_10(name, sha256, shown):
    assert data_name(name, sha256, is_cifar10=False) == shown


def test_an_archive_with_the_official_members_is_cifar_10():
    assert data_name("mine", "1e2c9ab5" * 8, is_cifar10=True) == "CIFAR-10, members verified"
