"""Many pictures on Ray Data, in folders, Parquet files and S3."""

import os
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
import team
from namespaces import cluster, wait_until, why_not
from PIL import Image
from projects import ROOT, run

from pipeline.data.pictures import image_or_reason
from pipeline.registry.bundle_model import model_of_bundle

COLOURS = {"red": (200, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 200)}
PICTURES = 700


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "my pictures"
    (folder / "more").mkdir(parents=True)
    names = list(COLOURS)
    for number in range(PICTURES):
        path = folder / ("more" if number % 2 else ".") / f"{number:04}.png"
        Image.new("RGB", (20, 20), COLOURS[names[number % 3]]).save(path)
    (folder / "0007 broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def score(bundle, source, target, **variables):
    return run(ROOT, "pipeline.score", "dist", bundle, source, target, **variables)


def rows(target):
    found = pyarrow.dataset.dataset(target).to_table().to_pylist()
    by_name = {row["row"] or row["file"]: row for row in found}
    assert len(by_name) == len(found)
    return by_name


def test_a_folder_is_classified_as_by_predict_a_broken_file_costs_its_row_and_nothing_is_done_twice(
    bundle, pictures, tmp_path
):
    out = tmp_path / "scores"
    done = score(bundle, pictures, out)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"score: {PICTURES + 1:,} pictures, 1 of them cannot be read, in {out}\n"
    found = rows(out)
    assert len(found) == PICTURES + 1
    broken = found.pop(f"{pictures}/0007 broken.jpg")
    assert (broken["class"], broken["probabilities"]) == (None, None)
    assert broken["error"] == image_or_reason(pictures / "0007 broken.jpg", 16)
    with model_of_bundle(bundle) as (model, class_names, _):
        for number in (0, 1, 2, 699):
            (path,) = pictures.rglob(f"{number:04}.png")
            row = found[str(path)]
            (expected,) = model.predict(image_or_reason(path, model.side)[None])
            np.testing.assert_allclose(row["probabilities"], expected, atol=1e-6)
            assert (row["class"], row["error"]) == (class_names[expected.argmax()], None)
            assert row["class"] == list(COLOURS)[number % 3]

    parts = sorted(out.iterdir())
    assert len(parts) > 3
    lost = pyarrow.parquet.read_metadata(parts[1]).num_rows
    parts[1].unlink()  # as if the run had been killed before it was written
    kept = {part: part.stat().st_mtime_ns for part in (parts[0], *parts[2:])}
    again = score(bundle, pictures, out)
    assert f"score: {lost:,} pictures, " in again.stdout
    assert {part: part.stat().st_mtime_ns for part in kept} == kept
    assert rows(out).keys() == found.keys() | {broken["file"]}
    assert "score: 0 pictures, " in score(bundle, pictures, out).stdout


@pytest.mark.parametrize("form", ["content", "struct"])
def test_pictures_in_parquet_files(bundle, pictures, tmp_path, form):
    files = sorted(pictures.glob("0*.png"))[:300]
    contents = [file.read_bytes() for file in files] + [b"no picture", None]
    images = contents if form == "content" else [{"bytes": content, "path": "x"} for content in contents]
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "0.parquet").write_bytes(b"no table")
    for part, shard in ((1, images[:150]), (2, images[150:])):
        table = pa.table({"label": [0] * len(shard), "file": [f"{n}.png" for n in range(len(shard))], "image": shard})
        pyarrow.parquet.write_table(table, tables / f"{part}.parquet")
    whole = (tables / "2.parquet").read_bytes()
    (tables / "3.parquet").write_bytes(whole[:-100])
    (tables / "4.parquet").write_bytes(whole[:100] + bytes(len(whole) - 200) + whole[-100:])
    pyarrow.parquet.write_table(pa.table({"file": ["x"], "picture": [b""]}), tables / "5.parquet")
    pyarrow.parquet.write_table(pa.table({"file": ["x"], "image": [1.5]}), tables / "6.parquet")
    done = score(bundle, tables, tmp_path / "scores")
    assert (done.returncode, done.stderr) == (0, "")
    assert "score: 307 pictures, 7 of them cannot be read" in done.stdout
    found = rows(tmp_path / "scores")
    assert [found[f"{tables}/1.parquet:{number}"]["class"] for number in range(4)] == ["red", "blue", "green", "red"]
    assert found[f"{tables}/2.parquet:0"]["file"] == found[f"{tables}/1.parquet:0"]["file"] == "0.png"
    for number in (150, 151):
        error = found[f"{tables}/2.parquet:{number}"]["error"]
        assert error.startswith("it is damaged, or not an image in one of the formats JPEG")
    for part in (0, 3, 4, 5, 6):
        row = found[f"{tables}/{part}.parquet"]
        assert row["class"] is None
        assert row["error"].startswith("the file cannot be read: ")
    assert "score: 0 pictures" in score(bundle, tables, tmp_path / "scores").stdout

    lost = next(part for part in (tmp_path / "scores").iterdir() if pyarrow.parquet.read_metadata(part).num_rows > 100)
    before = rows(tmp_path / "scores")
    lost.unlink()
    assert score(bundle, tables, tmp_path / "scores").returncode == 0
    assert rows(tmp_path / "scores") == before


@pytest.mark.skipif(bool(team.why_not("weed")), reason=team.why_not("weed"))
def test_from_s3_to_s3(bundle, pictures, tmp_path):
    with team.s3(tmp_path / "s3") as variables:
        client = team.client(variables)
        nothing = score(bundle, "s3://team/none", "s3://team/scores", **variables)
        assert nothing.stderr.startswith("score: s3://team/none cannot be listed: ")
        for file in sorted(pictures.glob("*"))[:20]:
            if file.is_file():
                client.upload_file(str(file), team.BUCKET, f"pictures/{file.name}")
        done = score(bundle, "s3://team/pictures", "s3://team/scores", **variables)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "score: 19 pictures, 1 of them cannot be read, in s3://team/scores\n"
        again = score(bundle, "s3://team/pictures", "s3://team/scores", **variables)
        assert "score: 0 pictures" in again.stdout


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "score: IN is missing. Run `make score IN=pictures OUT=scores`."),
        ("nowhere", "score: {folder}/nowhere has no files. IN is a folder"),
        ("empty", "score: {folder}/empty has no files. IN is a folder, s3://BUCKET/PREFIX, or Parquet files."),
        ("damaged", "score: none of the 1 Parquet files in {folder}/damaged can be read."),
        ("other", "score: {folder}/other/a.parquet has the columns x, but it should have `file`, a name, and `image`"),
    ],
)
def test_what_cannot_be_read_is_one_message(bundle, tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/a.parquet").write_bytes(b"no table")
    pyarrow.parquet.write_table(pa.table({"x": [1]}), tmp_path / "other/a.parquet")
    done = score(bundle, source and tmp_path / source, tmp_path / "scores")
    assert done.returncode == 1
    assert done.stderr.startswith(message.format(folder=tmp_path))
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "scores").exists()


def test_a_name_that_is_no_text_is_skipped(bundle, pictures, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"fine.png", b"\xff\xfe.png"):
        shutil.copy(pictures / "0000.png", os.fsencode(folder) + b"/" + name)
    done = score(bundle, folder, tmp_path / "scores")
    assert done.returncode == 0
    assert done.stderr == f"score: {folder}/\\udcff\\udcfe.png is skipped: its name is not UTF-8\n"
    assert "score: 1 pictures, 0 of them cannot be read" in done.stdout


@pytest.mark.parametrize("form", ["files", "tables"])
@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_on_machines_of_which_one_dies_each_picture_has_one_row(bundle, pictures, tmp_path, form):
    source, files = tmp_path / "many", sorted(pictures.glob("0*.png"))
    source.mkdir()
    if form == "files":
        for number in range(12_000):
            (source / f"{number:05}.png").symlink_to(files[number % len(files)])
    else:
        names = [file.name for file in files] * 3
        table = pa.table({"file": names, "image": [file.read_bytes() for file in files] * 3})
        for part in range(12):
            pyarrow.parquet.write_table(table, source / f"{part:02}.parquet")
    out = tmp_path / "scores"
    with cluster(2) as machines:
        command = [sys.executable, "-m", "pipeline.score", "dist", str(bundle), str(source), str(out)]
        driver = machines.driver(*command, cwd=ROOT)
        wait_until(lambda: len(list(out.glob("part-*"))) >= 3, driver)
        machines.kill(machines.names[1])
        before = len(list(out.glob("part-*")))
        _, errors = driver.communicate(timeout=300)
    assert (driver.returncode, errors) == (0, "")
    assert 3 <= before < len(list(out.glob("part-*")))
    assert len(rows(out)) == (12_000 if form == "files" else 12 * len(names))
