"""Rows of Parquet files, in parts that processes share."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from pipeline.distributed import sources
from pipeline.distributed.scoring import parquet_files


@pytest.mark.parametrize(("rows", "parts"), [(100, 1), (100, 7), (3, 5), (0, 2)])
@pytest.mark.parametrize("group", [1000, 30, 1])
def test_the_parts_of_a_file_are_its_rows_once_and_without_those_that_are_done(
    tmp_path, monkeypatch, rows, parts, group
):
    monkeypatch.setattr(sources, "ROWS_PER_BATCH", 8)
    file, names = str(tmp_path / "a.parquet"), [f"{number}.png" for number in range(rows)]
    images = pa.array([name.encode() for name in names], pa.binary())
    table = pa.table({"file": pa.array(names, pa.string()), "image": images})
    pyarrow.parquet.write_table(table, file, row_group_size=group)
    done = [0, 8, 9, 10, 11, 12, 13, 14, 15, 50]
    found = [list(sources.rows_in(file, (part, parts), done, str(tmp_path))) for part in range(parts)]
    assert all(0 < len(batch) <= 8 for part in found for batch in part)
    rest = [number for number in range(rows) if number not in done]
    expected = [{"file": names[n], "row": f"{file}:{n}", "image": names[n].encode(), "reason": None} for n in rest]
    assert [row for part in found for batch in part for row in batch.to_pylist()] == expected


def test_row_groups_of_other_parts_are_not_read(tmp_path):
    file = tmp_path / "a.parquet"
    table = pa.table({"file": ["a", "b"], "image": [b"1" * 999, b"2" * 999]})
    pyarrow.parquet.write_table(table, file, row_group_size=1, compression="none", use_dictionary=False)
    content = file.read_bytes()
    file.write_bytes(content[:4] + bytes(900) + content[904:])  # the first group is damaged
    ((row,),) = [batch.to_pylist() for batch in sources.rows_in(str(file), (1, 2), [], str(tmp_path))]
    assert (row["file"], row["reason"]) == ("b", None)
    (broken,) = sources.rows_in(str(file), (0, 2), [], str(tmp_path))
    assert broken["reason"].to_pylist()[0].startswith("the file cannot be read: ")


@pytest.mark.parametrize(("files", "cpus", "shares"), [(1, 2, [[0, 2], [1, 2]]), (3, 2, [[0, 1]] * 3)])
def test_few_files_are_shared_by_all_cpus(files, cpus, shares):
    names = [f"{number}.parquet" for number in range(files)]
    work = parquet_files(names, {"0.parquet:5", "0.parquet:7", "other.png"}, cpus)
    assert [table["share"].to_pylist() for table in work] == [[share] for share in shares]
    assert [sorted(done) for table in work for done in table["done"].to_pylist()] == (
        [[5, 7]] * cpus if files == 1 else [[5, 7], [], []]
    )
