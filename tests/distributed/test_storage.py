import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of
from pipeline.distributed.storage import download, exists, fetch, remove_folder, share, upload


@pytest.fixture
def split(tmp_path):
    path = tmp_path / "my data" / "train.npz"
    path.parent.mkdir()
    path.write_bytes(b"images")
    return path


def test_without_a_storage_the_file_stays_where_it_is(split):
    file = share(split, sha256_of(split), None)
    assert fetch(file) == split.resolve()


def test_a_storage_gets_one_copy_under_its_hash(split, tmp_path):
    storage, digest = f"{tmp_path}/shared folder/splits/", sha256_of(split)
    file = share(split, digest, storage)
    copy = tmp_path / "shared folder/splits" / f"{digest}.npz"
    assert fetch(file) == copy
    before = copy.stat()
    assert share(split, digest, storage) == file
    assert copy.stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_another_content_is_refused(split, tmp_path):
    file = share(split, sha256_of(split), str(tmp_path / "shared"))
    fetch(file).write_bytes(b"others")
    with pytest.raises(PipelineError, match="but the command started with"):
        fetch(file)


def test_a_file_that_another_machine_does_not_have_is_explained(split):
    file = share(split, sha256_of(split), None)
    split.unlink()
    with pytest.raises(PipelineError, match=r"does not exist on this machine\. Set tune\.storage"):
        fetch(file)


def test_files_are_replaced_and_folders_removed(split, tmp_path):
    address, back = f"{tmp_path}/a/b/c.npz", tmp_path / "back"
    assert not exists(address)
    upload(split, address)
    split.write_bytes(b"new")
    upload(split, address)
    download(address, back)
    assert back.read_bytes() == b"new"
    assert not exists(f"{tmp_path}/a/b")  # a folder
    remove_folder(f"{tmp_path}/a")
    remove_folder(f"{tmp_path}/a")
    assert not (tmp_path / "a").exists()
