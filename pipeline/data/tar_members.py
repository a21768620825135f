"""The files in a tar.gz, read one at a time: nothing is written to disk, and time and memory are bounded."""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

MAX_BYTES = 1 << 29  # of a member, and unpacked in all; CIFAR-10 has 184 MB
MAX_RATIO = 300  # a larger archive may unpack to this many times its size; line drawings to 220 times
MAX_MEMBERS = 1_000
MAX_HEADER = 1 << 16  # bytes of a long name or of pax records


class UnfitTarError(Exception):
    """The file is no tar.gz, is damaged, or has members that are not accepted; the message is the reason."""


def unpacked_limit(size: int) -> int:
    """To how many bytes an archive of `size` bytes may unpack."""
    return max(MAX_BYTES, MAX_RATIO * size)


class _Limited:
    """A file of which at most `limit` bytes can be read."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self._file, self._limit, self._left = file, limit, limit

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {self._limit >> 20:,} MiB")
        return content


class _TarInfo(tarfile.TarInfo):
    """A member whose long name or pax records are small; tarfile reads those into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size > MAX_HEADER and not self.isreg():
            raise tarfile.ReadError(f"a header of {self.size:,} bytes is too large")
        return super()._proc_member(archive)  # type: ignore[misc]


def read_members(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Contents of the files with a `wanted` name, in any folder of a tar.gz; its checksum is verified at the end.

    Raises:
        FileNotFoundError: there is no such file.
        UnfitTarError: it is damaged, or has other members than small enough files in it.
    """
    limit = unpacked_limit(path.stat().st_size)
    try:
        with gzip.open(path) as file, tarfile.open(
            fileobj=cast("IO[bytes]", limited := _Limited(file, limit)), mode="r|", bufsize=1 << 20, tarinfo=_TarInfo
        ) as tar:  # fmt: skip
            for count, member in enumerate(tar):
                _refuse_unsafe(member, count)
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member)  # None for a folder
                if content and wanted.fullmatch(name):
                    yield name, content.read()
            while limited.read(1 << 20):  # gzip verifies its checksum at the end
                pass
    except RecursionError:
        raise UnfitTarError(f"{path} cannot be read as a tar.gz: it has too many headers in a row") from None
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise UnfitTarError(f"{path} cannot be read as a tar.gz: {reason:.200}") from None


def _refuse_unsafe(member: tarfile.TarInfo, count: int) -> None:
    path, name = PurePosixPath(member.name), repr(member.name[:100])
    if count >= MAX_MEMBERS:
        raise UnfitTarError(f"the archive has more than {MAX_MEMBERS:,} members")
    if path.is_absolute() or ".." in path.parts:
        raise UnfitTarError(f"the archive's member {name} points outside the archive")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise UnfitTarError(f"the archive's member {name} is a link, a device or sparse, but only files are expected")
    if member.size > MAX_BYTES:
        raise UnfitTarError(f"the archive's member {name} has {member.size:,} bytes, at most {MAX_BYTES:,} are read")
