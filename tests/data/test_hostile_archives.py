"""Archives, pickles and class names made to do harm: each is refused with one short message, within bounds, or read."""

import gzip
import io
import os
import pickle
import random
import resource
import signal
import struct
import tarfile

import pytest
from archives import contents, write

from pipeline.common.errors import PipelineError
from pipeline.data import tar_members
from pipeline.data.archive import read_archive
from pipeline.data.synthetic import pack

SECONDS, MEGABYTES, CHARACTERS = 10, 200, 700  # that a refusal may take
MUTATIONS = int(os.environ.get("MUTATIONS", "1000"))  # of each kind; `make fuzz N=100000`


def refusal(path):
    """The message with which the archive is refused; it must be short and printable, and come within the bounds."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(SECONDS)  # ends the process: a test must not hang
    try:
        with pytest.raises(PipelineError) as refused:
            read_archive(path)
    finally:
        signal.alarm(0)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES
    message = str(refused.value)
    assert len(message) < CHARACTERS
    assert message.isprintable()
    return message


def tar(*members, size=None):
    """A tar.gz of TarInfo objects, each with zeros as content."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as zipped:
        for member in members:
            zipped.write(member.tobuf(tarfile.GNU_FORMAT) if isinstance(member, tarfile.TarInfo) else member)
        zipped.write(bytes(1024))
    return packed.getvalue()


def member(name="cifar-10-batches-py/test_batch", kind=tarfile.REGTYPE, size=0, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def zeros(size):
    return bytes(-(-size // 512) * 512)


LONG, PAX = (member("././@LongLink", kind, 513) for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE))
TARS = {
    "bomb of zeros": (
        tar(member("zeros", size=4 << 20), zeros(4 << 20)),
        "has 4,194,304 bytes, at most 1,048,576 are read",
    ),
    "bomb of small members": (tar(*[member("zeros", size=1 << 19), zeros(1 << 19)] * 4), "unpacks to more than 1 MiB"),
    "bomb behind the end": (tar(bytes(2048), zeros(4 << 20)), "unpacks to more than 1 MiB"),
    "long name of 1 MB": (tar(member("x", tarfile.GNUTYPE_LONGNAME, 1 << 20), zeros(1 << 20)), "is too large"),
    "long link of 1 MB": (tar(member("x", tarfile.GNUTYPE_LONGLINK, 1 << 20), zeros(1 << 20)), "is too large"),
    "pax header of 2 GB": (tar(member("x", tarfile.XHDTYPE, 2 << 30)), "is too large"),
    "global pax header of 2 GB": (tar(member("x", tarfile.XGLTYPE, 2 << 30)), "is too large"),
    "chain of long names": (tar(*[LONG, zeros(513)] * 3000), "too many headers in a row|unpacks to more"),
    "chain of pax headers": (tar(*[PAX, b"11 path=abc\n".ljust(1024, b"\0")] * 3000), "headers|unpacks|cannot be read"),
    "sparse of 8 GB": (tar(member(kind=tarfile.GNUTYPE_SPARSE, size=8 << 30)), "is too large|sparse"),
    "many members": (tar(*[member(f"m{number}") for number in range(1100)]), "more than 1,000 members"),
    "size beyond the end": (tar(member(size=1 << 19)), "cannot be read"),
    "size of 1 TB": (tar(member(size=1 << 40)), "are read"),
    "symbolic link": (tar(member(kind=tarfile.SYMTYPE, link="/etc/passwd")), "is a link"),
    "hard link": (tar(member(kind=tarfile.LNKTYPE, link="/etc/passwd")), "is a link"),
    "FIFO": (tar(member(kind=tarfile.FIFOTYPE)), "is a link"),
    "character device": (tar(member(kind=tarfile.CHRTYPE)), "is a link"),
    "block device": (tar(member(kind=tarfile.BLKTYPE)), "is a link"),
    "contiguous file": (tar(member(kind=tarfile.CONTTYPE)), "has no batches.meta|cannot be read"),
    "upwards": (tar(member("../../test_batch")), "points outside"),
    "absolute": (tar(member("/etc/test_batch")), "points outside"),
    "escape sequence in a name": (tar(member("\x1b[31m", tarfile.FIFOTYPE)), "is a link"),
    "empty": (b"", "cannot be read|has no"),
    "not gzip": (b"Rar!" * 100, "cannot be read"),
    "gzip of nothing": (gzip.compress(b""), "cannot be read|has no"),
    "gzip of text": (gzip.compress(b"hello" * 1000), "cannot be read"),
    "wrong checksum": (pack({"batches.meta": b"x" * 1000})[:-8] + bytes(8), "cannot be read"),
}


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tar_members, "MAX_BYTES", 1 << 20)
    content, message = TARS[name]
    (tmp_path / "a.tar.gz").write_bytes(content)
    assert any(part in refusal(tmp_path / "a.tar.gz") for part in message.split("|"))


OBJECT_DTYPE = (
    b"cnumpy\ndtype\n(\x8c\x02V8K\x00K\x01tR(K\x03\x8c\x01|N\x8c\x01f\x85}\x8c\x01fcnumpy\ndtype\n"
    b"(\x8c\x02O8K\x00K\x01tRK\x00\x86sK\x08K\x01K\x10tb"
)
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
UINT8 = b"cnumpy\ndtype\n(\x8c\x02u1K\x00K\x01tR(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
POINTER = struct.pack("<Q", 0x4141414141414141)
DOUBLING = b"]q\x00" + b"(h\x00h\x00e" * 40  # a list that contains itself many times
PICKLES = {
    "nothing": b"",
    "no value": b".",
    "two values": b"\x80\x02K\x01K\x02.",
    "marks only": b"(((((.",
    "pop of an empty stack": b"\x80\x020.",
    "append to a number": b"\x80\x02K\x01K\x02a.",
    "items of a number": b"\x80\x02K\x01(K\x02K\x03u.",
    "state of a number": b"\x80\x02K\x01K\x02b.",
    "unhashable key": b"\x80\x02}]K\x01s.",
    "odd number of items": b"\x80\x02}(K\x01u.",
    "unknown memo": b"\x80\x02h\x05.",
    "memo of two billion": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "bytes of 8 EB": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "text of 4 GB": b"\x80\x02X\xff\xff\xff\xff.",
    "frame of 8 EB": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
    "number of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "decimal number of 100,000 digits": b"L" + b"9" * 100_000 + b"L\n.",
    "protocol 200": b"\x80\xc8N.",
    "unknown opcode": b"\x80\x02\xff.",
    "a call": b"cos\nsystem\n(\x8c\x02lstR.",
    "a call in protocol 0": b"cos\nsystem\n(S'ls'\ntR.",
    "an instance": b"(S'ls'\nios\nsystem\n.",
    "a new object": b"\x80\x02cos\nsystem\n(\x8c\x02lst\x81.",
    "a persistent object": b"\x80\x02Pid\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "a list that contains itself": b"\x80\x02" + DOUBLING + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "many opcodes": b"\x80\x02" + b"N0" * 600_000 + b"N.",
    "object pointers in an array": b"\x80\x02}\x8c\x04data"
    + ARRAY
    + b"(K\x01K\x01\x85"
    + OBJECT_DTYPE
    + b"\x89C\x08"
    + POINTER
    + b"tbs.",
}


def as_data(state):
    """A batch whose `data` is an array with this state."""
    return (
        b"\x80\x04}(\x8c\x0bbatch_label\x8c\x15training batch 1 of 2\x8c\x06labels](K\x00e\x8c\x04data"
        + ARRAY
        + state
        + b"bu."
    )


DATA = {
    "object pointers": as_data(b"(K\x01K\x01K\x01\x86" + OBJECT_DTYPE + b"\x89C\x08" + POINTER + b"t"),
    "more rows than bytes": as_data(b"(K\x01J\xff\xff\xff\x7fM\x00\x0c\x86" + UINT8 + b"\x89C\x01xt"),
    "negative rows": as_data(b"(K\x01J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86" + UINT8 + b"\x89C\x01xt"),
    "one dimension": as_data(b"(K\x01K\x01\x85" + UINT8 + b"\x89C\x01xt"),
    "text as content": as_data(b"(K\x01K\x01K\x01\x86" + UINT8 + b"\x89\x8c\x01xt"),
    "a list as content": as_data(b"(K\x01K\x01K\x01\x86" + UINT8 + b"\x89]t"),
    "Fortran order": as_data(b"(K\x01K\x01K\x01\x86" + UINT8 + b"\x88C\x01xt"),
    "true as a size": as_data(b"(K\x01\x88\x88\x86" + UINT8 + b"\x89C\x01xt"),
    "no state": as_data(b"N"),
    "short state": as_data(b")"),
}


@pytest.mark.parametrize("member_name", ["batches.meta", "data_batch_1"])
@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_is_refused(tmp_path, name, member_name):
    files = {key: pickle.dumps(value, protocol=4) for key, value in contents().items()}
    (tmp_path / "a.tar.gz").write_bytes(pack(files | {member_name: PICKLES[name]}))
    assert member_name in refusal(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("name", DATA)
def test_a_hostile_array_is_refused(tmp_path, name):
    files = {key: pickle.dumps(value, protocol=4) for key, value in contents().items()}
    (tmp_path / "a.tar.gz").write_bytes(pack(files | {"data_batch_1": DATA[name]}))
    assert "data_batch_1 must contain a uint8 table" in refusal(tmp_path / "a.tar.gz")


NAMES = [
    "",
    " ",
    " cat",
    "cat\n",
    "a\nb",
    "a\rb",
    "a\tb",
    "a\0",
    "\x1b[31mred",
    "\x7f",
    "a\u2028b",
    "a\u202eb",
    "x" * 101,
]
NAMES += [b"caf\xe9", 7, None, [], b"\xff\xfe", "dog"]  # the last one is the other class


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_class_name_that_nothing_can_hold_is_refused(tmp_path, name):
    assert "class" in refusal(write(tmp_path / "a.tar.gz", contents(names=(name, b"dog"))))


@pytest.mark.parametrize(
    "name", ["<b>cat</b>", "$x_1$", "=1+1", "a,b;c", 'a"b', "a|b", "`cat`", "猫", "emoji 🐈", "a b"]
)
def test_any_other_class_name_is_read(tmp_path, name):
    assert read_archive(write(tmp_path / "a.tar.gz", contents(names=(name, b"dog")))).class_names == [name, "dog"]


def test_a_lone_surrogate_in_a_class_name_is_refused(tmp_path):
    files = {key: pickle.dumps(value, protocol=4) for key, value in contents(names=("cat", "dog")).items()}
    files["batches.meta"] = files["batches.meta"].replace(b"\x8c\x03cat", b"\x8c\x03\xed\xa0\x80")
    (tmp_path / "a.tar.gz").write_bytes(pack(files))
    assert "class name" in refusal(tmp_path / "a.tar.gz")


def shape_or_message(path):
    """The shape of the training images, or whether the message of the refusal is printable."""
    try:
        return read_archive(path).train_images.shape
    except PipelineError as error:
        return "printable" if str(error).isprintable() else str(error)


def test_mutated_pickles_are_refused_or_read(tmp_path):
    """Random changes of the bytes of a batch, seeded."""
    generator, original = random.Random(0), pickle.dumps(contents(rows=3)["data_batch_1"], protocol=4)
    others = {key: pickle.dumps(value, protocol=4) for key, value in contents(rows=3).items()}
    for _ in range(MUTATIONS):
        changed = bytearray(original)
        for _ in range(generator.randint(1, 4)):
            changed[generator.randrange(200 if generator.random() < 0.7 else len(changed))] = generator.randrange(256)
        (tmp_path / "a.tar.gz").write_bytes(pack(others | {"data_batch_1": bytes(changed)}))
        assert shape_or_message(tmp_path / "a.tar.gz") in ((6, 32, 32, 3), "printable")


def test_mutated_archives_are_refused_or_read(tmp_path):
    """Random changes of the bytes of a tar and of its gzip stream, seeded."""
    generator, packed = random.Random(1), write(tmp_path / "b.tar.gz", contents()).read_bytes()
    unpacked = gzip.decompress(packed)
    for number in range(MUTATIONS):
        changed = bytearray(packed if number % 2 else unpacked)
        for _ in range(generator.randint(1, 4)):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        (tmp_path / "a.tar.gz").write_bytes(changed if number % 2 else gzip.compress(bytes(changed), 1))
        assert shape_or_message(tmp_path / "a.tar.gz") in ((2, 32, 32, 3), "printable")
