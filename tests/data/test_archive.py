import gzip
import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from archives import as_python_2, cifar100, contents, row, write

from pipeline.common.errors import PipelineError
from pipeline.data import archive
from pipeline.data.archive import decode, read_archive
from pipeline.data.synthetic import pack


def test_decode_puts_row_column_and_channel_in_that_order():
    images, labels = decode("data_batch_1", {"data": row(channel=2, line=5, column=7), "labels": [9]})
    assert np.argwhere(images).tolist() == [[0, 5, 7, 2]]
    assert labels.tolist() == [9]
    assert (images.dtype, labels.dtype) == (np.uint8, np.uint16)


def test_an_archive_keeps_its_order_and_its_own_class_names(tmp_path):
    data = read_archive(write(tmp_path / "a.tar.gz", contents(batches=12)))
    assert data.train_images[:, 0, 0, 0].tolist() == list(range(1, 13))  # batch 10 follows 9, not 1
    assert (data.test_images[:, 0, 0, 0].tolist(), data.test_labels.tolist()) == ([255], [1])
    assert data.class_names == ["cat", "dog"]


def test_the_official_members_are_recognised_in_any_wrapping(tmp_path, monkeypatch):
    """With a small archive in place of CIFAR-10's."""
    members = {name: pickle.dumps(content, protocol=4) for name, content in contents().items()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    monkeypatch.setattr(archive, "OFFICIAL_MEMBERS", hashes)
    unpacked = gzip.decompress(pack(members | {"readme.html": b"<p>"}))
    changed = members | {"batches.meta": members["batches.meta"].replace(b"cat", b"cut")}
    for content, recognised in ((gzip.compress(unpacked, 9), True), (pack(changed), False)):
        (tmp_path / "a.tar.gz").write_bytes(content)
        assert read_archive(tmp_path / "a.tar.gz").is_cifar10 is recognised
    write(tmp_path / "more.tar.gz", contents(batches=3))
    assert not read_archive(tmp_path / "more.tar.gz").is_cifar10


def test_text_keys_are_read_like_bytes_keys(tmp_path):
    files = {name: {key.decode(): value for key, value in content.items()} for name, content in contents().items()}
    assert read_archive(write(tmp_path / "a.tar.gz", files)).class_names == ["cat", "dog"]


def test_a_pickle_as_python_2_and_numpy_1_wrote_it_is_read(tmp_path):
    """CIFAR-10's own format: protocol 2, numpy.core, and str keys of Python 2."""
    files = {name: as_python_2(content) for name, content in contents(batches=1).items()}
    (tmp_path / "a.tar.gz").write_bytes(pack(files))
    assert read_archive(tmp_path / "a.tar.gz").train_images[0, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("pickled", [as_python_2, lambda content: pickle.dumps(content, protocol=4)])
def test_the_archive_of_cifar100_is_read_with_its_fine_labels(tmp_path, pickled):
    files = cifar100(train=101, test=2)
    (tmp_path / "a.tar.gz").write_bytes(
        pack({name: pickled(each) for name, each in files.items()} | {"file.txt~": b""})
    )
    data = read_archive(tmp_path / "a.tar.gz")
    assert data.class_names == [f"fine {number}" for number in range(100)]
    assert data.train_labels.tolist() == [*range(100), 0]
    assert np.array_equal(data.train_images.transpose(0, 3, 1, 2).reshape(101, -1), files["train"][b"data"])
    assert np.array_equal(data.test_images.transpose(0, 3, 1, 2).reshape(2, -1), files["test"][b"data"])
    assert (data.is_cifar10, data.preprocessing) == (False, "")


def of_cifar100(member, key, value):
    files = cifar100()
    files[member] = files[member] | {key: value}
    return files


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({name: each for name, each in cifar100().items() if name != "test"}, "has no test; it has meta, train"),
        ({name: each for name, each in cifar100().items() if name != "meta"}, "has no meta; it has test, train"),
        (cifar100(test=0), "test contains no images"),
        (of_cifar100("train", b"batch_label", b"training batch 1 of 2"), "has no train_2"),
        (of_cifar100("train", b"fine_labels", [0, 1, 100]), "train has label 100, but meta names 100 classes, 0 to 99"),
        (
            of_cifar100("test", b"data", np.zeros((2, 48 * 48 * 3), np.uint8)),
            "one height and width, but they are 32 in train, 48 in test",
        ),
        (cifar100() | contents(), "members of CIFAR-10's and of CIFAR-100's format: batches.meta, data_batch_1"),
    ],
)
def test_an_archive_of_cifar100_that_contradicts_itself_is_refused(tmp_path, files, message):
    with pytest.raises(PipelineError, match=f"(?s){message}.*download.urls.*dvc repro"):
        read_archive(write(tmp_path / "a.tar.gz", files))


class Shell:
    """Its pickle calls os.system when it is loaded."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("member", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_pickle_that_calls_a_shell_is_refused_and_not_executed(tmp_path, member):
    files = contents() | {member: Shell(f"touch '{tmp_path}/owned'")}
    with pytest.raises(PipelineError, match=rf"{member} must contain a dictionary, got another object"):
        read_archive(write(tmp_path / "a.tar.gz", files))
    assert not (tmp_path / "owned").exists()


def change(member, key, value):
    files = contents()
    files[member] = files[member] | {key: value}
    return files


def without(member, key=None):
    files = contents()
    if key is None:
        del files[member]
    else:
        del files[member][key]
    return files


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (without("data_batch_2"), "has no data_batch_2"),
        (without("data_batch_1"), "has no data_batch_1"),
        (without("test_batch"), "has no test_batch"),
        (without("batches.meta"), "has no batches.meta"),
        (without("batches.meta", b"label_names"), "batches.meta has no label_names"),
        (without("data_batch_1", b"labels"), "data_batch_1 has no labels"),
        (change("batches.meta", b"label_names", []), "must list 2 to 1,000 class names, got list"),
        (
            change("batches.meta", b"num_cases_per_batch", 2),
            "announces 2 images per batch and 4 in 2 batches, but data_batch_1 has 1",
        ),
        (
            change("batches.meta", b"num_cases_per_batch", 0),
            "num_cases_per_batch must be an integer above 0, got 0",
        ),
        (
            change("data_batch_1", b"data", np.zeros((1, 10), np.uint8)),
            r"3 x side x side bytes a row .*, got uint8 of shape \(1, 10\)",
        ),
        (change("data_batch_1", b"data", np.zeros((1, 3072))), "3 x side x side bytes a row .*, got another object"),
        (change("data_batch_1", b"data", [1, 2]), "3 x side x side bytes a row .*, got list"),
        (change("data_batch_2", b"labels", [2]), "data_batch_2 has label 2, but batches.meta names 2 classes, 0 to 1"),
        (change("data_batch_2", b"labels", [-1]), "data_batch_2 has label -1"),
        (change("data_batch_2", b"labels", [0, 1]), "list of 1 integers as labels"),
        (change("data_batch_2", b"labels", ["0"]), "list of 1 integers as labels"),
        (change("data_batch_1", b"batch_label", b"something"), 'must be titled "training batch 1 of N", got'),
        (
            contents() | {"data_batch_7": contents()["data_batch_2"]},
            "has data_batch_7, but data_batch_1 is 'training batch 1 of 2'",
        ),
        (
            contents() | {"test_batch": contents(rows=0)["test_batch"]},
            "test_batch contains no images",
        ),
        (
            contents() | {"test": contents()["test_batch"] | {b"fine_labels": [0]}},
            "members of CIFAR-10's and of CIFAR-100's format: batches.meta, .* test",
        ),
        (contents() | {"test_batch": [1, 2]}, "test_batch must contain a dictionary, got list"),
    ],
)
def test_an_archive_that_contradicts_itself_is_refused(tmp_path, files, message):
    with pytest.raises(PipelineError, match=f"(?s){message}.*download.urls.*dvc repro"):
        read_archive(write(tmp_path / "a.tar.gz", files))


def archive_with(member):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(member)
    return packed.getvalue()


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive at all", "cannot be read as a tar.gz"),
        (pack({"batches.meta": b"x" * 100_000})[:-200], "cannot be read as a tar.gz"),
        (archive_with(tarfile.TarInfo("../../etc/cron.d/job")), r"'../../etc/cron.d/job' points outside the archive"),
        (archive_with(tarfile.TarInfo("/etc/passwd")), "'/etc/passwd' points outside the archive"),
        (
            archive_with(link("cifar-10-batches-py/test_batch", "/etc/passwd")),
            "is a link, a device or sparse, but only files",
        ),
    ],
    ids=["no archive", "cut", "upwards", "absolute", "link"],
)
def test_a_broken_or_unsafe_tar_is_refused(tmp_path, content, message):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(PipelineError, match=f"(?s){message}.*dvc repro"):
        read_archive(tmp_path / "a.tar.gz")


def test_cut_anywhere_an_archive_is_refused(tmp_path):
    whole = write(tmp_path / "a.tar.gz", contents()).read_bytes()
    for length in range(0, len(whole) - 8, max(1, len(whole) // 40)):
        (tmp_path / "cut.tar.gz").write_bytes(whole[:length])
        with pytest.raises(PipelineError):
            read_archive(tmp_path / "cut.tar.gz")
