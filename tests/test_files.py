import pytest

from pipeline.errors import PipelineError
from pipeline.files import read_json, removed_on_failure, sha256_of, whole, write_csv, write_json


def test_whole_gives_the_file_its_name_when_the_block_ends(tmp_path):
    target = tmp_path / "new folder" / "a.txt"
    with whole(target) as (draft,):
        draft.write_text("all of it")
        assert not target.exists()
    assert [(path.name, path.read_text()) for path in target.parent.iterdir()] == [("a.txt", "all of it")]


def write_and_fail(path):
    path.write_text("half of it")
    raise OSError("no space left")


def test_whole_leaves_nothing_where_the_block_fails(tmp_path):
    with pytest.raises(OSError, match="no space"), whole(tmp_path / "a.txt", tmp_path / "b.txt") as (first, _):
        write_and_fail(first)
    assert list(tmp_path.iterdir()) == []


def test_whole_replaces_a_folder_and_what_a_killed_process_left(tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/old.html").touch()
    (tmp_path / ".partial-pages").mkdir()
    (tmp_path / ".partial-pages/left.html").touch()
    with whole(tmp_path / "pages") as (draft,):
        draft.mkdir()
        (draft / "new.html").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["pages", "new.html"]


def test_what_a_stage_wrote_goes_where_it_fails_afterwards(tmp_path):
    for name in ("a.txt", "kept.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ZeroDivisionError), removed_on_failure(tmp_path / "a.txt"):
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_json_refuses_what_is_no_number(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})


def test_a_damaged_json_file_is_told_with_the_remedy(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(PipelineError, match=r"a.json is damaged: .*Run this"):
        read_json(tmp_path / "a.json", "Run this.")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_write_csv(tmp_path):
    write_csv(tmp_path / "t.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    assert (tmp_path / "t.csv").read_text() == "epoch,loss\n1,0.5\n2,0.25\n"
