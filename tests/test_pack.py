"""`make pack`, as a user types it, and every input that it refuses."""

import csv
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from picture_folders import noise_picture, write_noise
from PIL import Image
from projects import ROOT, run

from pipeline.common.errors import PipelineError, printable
from pipeline.common.files import sha256_of
from pipeline.data.archive import read_archive
from pipeline.data.pictures import PREPROCESSING, read_image
from pipeline.download import DownloadParams
from pipeline.pack import pack
from pipeline.validation.settings import ValidateParams

COUNTS = {"cat": 8, "dog": 6}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with params.yaml and the folder `pictures` of two classes."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return write_noise(tmp_path / "pictures", COUNTS)


def packed(folder, side=16, skip=False, write=False, name="a.tar.gz"):
    pack(folder, side, folder.parent / name, skip, write)
    return read_archive(folder.parent / name)


def test_the_images_are_what_predict_reads(folder):
    data = packed(folder, side=24)
    assert data.class_names == ["cat", "dog"]
    assert (data.train_images.shape, data.test_images.shape) == ((12, 24, 24, 3), (2, 24, 24, 3))
    assert data.preprocessing == PREPROCESSING
    with (folder.parent / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert [int(row["archive_index"]) for row in rows] == list(range(14))
    assert [row["part"] for row in rows] == ["train"] * 12 + ["test"] * 2
    for row, image, label in zip(rows, images, labels, strict=True):
        assert np.array_equal(read_image(folder / row["file"], 24), image)
        assert row["class_name"] == row["file"].split("/")[0] == data.class_names[label]


def test_equal_folders_give_equal_bytes(folder):
    packed(folder)
    shutil.move(folder, folder.parent / "elsewhere")
    packed(folder.parent / "elsewhere", name="b.tar.gz")
    assert sha256_of(folder.parent / "a.tar.gz") == sha256_of(folder.parent / "b.tar.gz")
    assert (folder.parent / "a.csv").read_bytes() == (folder.parent / "b.csv").read_bytes()


def test_the_test_split_is_stratified(tmp_path, folder):
    data = packed(write_noise(tmp_path / "skewed", {"many": 60, "some": 12, "few": 3}))
    assert data.class_names == ["few", "many", "some"]
    assert np.bincount(data.test_labels).tolist() == [1, 9, 2]
    assert np.bincount(data.train_labels).tolist() == [2, 51, 10]


def test_folders_train_and_test_keep_their_pictures(folder):
    for part, count in (("train", 5), ("test", 3)):
        write_noise(folder.parent / "both" / part, {"cat": count, "dog": count})
    for number, path in enumerate((folder.parent / "both/test").rglob("*.png")):
        noise_picture(1000 + number).save(path)  # not those of the folder train
    data = packed(folder.parent / "both")
    assert (np.bincount(data.train_labels).tolist(), np.bincount(data.test_labels).tolist()) == ([5, 5], [3, 3])


def test_batches_are_limited_and_announced(folder, monkeypatch):
    whole = packed(folder, name="b.tar.gz")
    monkeypatch.setattr("pipeline.pack.ROWS", 3)
    in_batches = packed(folder)
    assert np.array_equal(whole.train_images, in_batches.train_images)
    listed = subprocess.run(["tar", "tzf", folder.parent / "a.tar.gz"], capture_output=True, text=True).stdout.split()
    assert listed == ["batches/batches.meta", *(f"batches/data_batch_{n}" for n in (1, 2, 3, 4)), "batches/test_batch"]


def test_several_test_batches_are_read_in_order(folder, monkeypatch):
    whole = packed(folder)
    monkeypatch.setattr("pipeline.pack.ROWS", 1)
    single = packed(folder, name="b.tar.gz")
    assert np.array_equal(whole.test_images, single.test_images)
    assert np.array_equal(whole.train_labels, single.train_labels)


def test_pictures_that_compress_like_a_bomb_are_packed_and_read(folder, monkeypatch):
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(path)
    monkeypatch.setattr("pipeline.data.tar_members.MAX_BYTES", 650_000)
    assert len(packed(folder, side=128).train_labels) == 12
    assert (folder.parent / "a.tar.gz").stat().st_size > 14 * 128 * 128 * 3


def test_grey_transparent_and_rotated_pictures_are_packed(folder):
    noise_picture(27).convert("L").save(folder / "cat/grey.png")
    noise_picture(28).convert("RGBA").save(folder / "cat/transparent.png")
    noise_picture(29).convert("CMYK").save(folder / "dog/printed.jpg")
    frames = [noise_picture(seed) for seed in (30, 31)]
    frames[0].save(folder / "dog/animated.gif", save_all=True, append_images=frames[1:])
    assert len(packed(folder).train_labels) == 15


def test_the_settings_fit_the_archive_and_nothing_else_changes(folder, capsys):
    before = (folder.parent / "params.yaml").read_text()
    data = packed(folder, write=True)
    after = (folder.parent / "params.yaml").read_text()
    params, earlier = yaml.safe_load(after), yaml.safe_load(before)
    assert params["download"]["sha256"] == sha256_of(folder.parent / "a.tar.gz")
    assert params["download"]["urls"] == [(folder.parent / "a.tar.gz").as_uri()]
    assert params["download"]["name"] == "pictures"
    section = ValidateParams.of_section("validate", params["validate"])
    assert (section.train_images, section.test_images) == (12, 2)
    assert section.class_imbalance is None  # 8 to 6
    assert np.allclose(
        section.channel_means, np.concatenate([data.train_images, data.test_images]).mean((0, 1, 2)) / 255, atol=1e-4
    )
    assert params["train"]["batch_size"] == 8
    assert [line.split("#")[1:] for line in before.splitlines() if "#" in line] == [
        line.split("#")[1:] for line in after.splitlines() if "#" in line
    ]
    for section in ("evaluate", "export", "promote", "robustness", "slices"):
        assert params[section] == earlier[section]
    printed = capsys.readouterr().out
    assert "the classes are unequal; train.class_weight: balanced may help" in printed
    assert "`make repro` trains on it" in printed


def test_without_write_the_same_settings_are_printed(folder, capsys):
    before = (folder.parent / "params.yaml").read_bytes()
    packed(folder)
    assert (folder.parent / "params.yaml").read_bytes() == before
    printed = yaml.safe_load(capsys.readouterr().out.split("`make repro`:\n")[1])
    packed(folder, write=True, name="b.tar.gz")
    params = yaml.safe_load((folder.parent / "params.yaml").read_text())
    printed["download"]["urls"] = params["download"]["urls"]
    assert all(params[section][key] == value for section, keys in printed.items() for key, value in keys.items())


def animated(path):
    noise_picture(1).save(path, "GIF", save_all=True, append_images=[noise_picture(2)])


def enormous(path):
    """A PNG file of a few bytes that claims 60,000 x 60,000 pixels."""
    Image.new("1", (60_000, 1)).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[20:24] = (60_000).to_bytes(4, "big")
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


UNREADABLE = {
    "text.png": (lambda path: path.write_text("no picture"), "not an image in one of the formats"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "not an image in one of the formats"),
    "drawing.eps": (
        lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "not an image in one of the formats",
    ),
    "cut.png": (
        lambda path: noise_picture(3, 90).save(path) or path.write_bytes(path.read_bytes()[:5_000]),
        "it is damaged",
    ),
    "enormous.png": (enormous, "exceeds limit"),
    "pipe.png": (os.mkfifo, "not a regular file"),
    "floats.tiff": (lambda path: Image.new("F", (9, 9)).save(path), "unknown range"),
    "broken link.png": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "link to itself.png": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "link.png": (lambda path: path.symlink_to("/etc/hostname"), "a link out of the folder"),
    "again.png": (lambda path: noise_picture(0).save(path), "the same picture as"),
    "nonutf8-\udcff.png": (lambda path: path.write_text("no picture"), "not an image in one of the formats"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_picture_that_cannot_be_used_is_listed_and_left_out_only_on_request(folder, capsys, name):
    make, reason = UNREADABLE[name]
    make(folder / "cat" / name)
    with pytest.raises(PipelineError, match=rf"1 of 1\d pictures cannot be packed:\n  .*{reason}.*\n.*SKIP=1"):
        packed(folder)
    assert {path.name for path in folder.parent.iterdir()} == {"params.yaml", "pictures"}
    assert len(packed(folder, skip=True).train_labels) == 12
    assert reason in capsys.readouterr().out


def test_links_inside_of_the_folder_are_followed(folder):
    shutil.move(folder / "dog", folder / ".store")
    (folder / "dog").symlink_to(".store")
    shutil.move(folder / "cat/0000.png", folder / "loose.png")
    (folder / "cat/0000.png").symlink_to("../loose.png")
    assert len(packed(folder).train_labels) == 12


def test_the_same_picture_in_two_classes_is_left_out_of_both(folder):
    shutil.copy(folder / "cat/0000.png", folder / "dog/other.png")
    with pytest.raises(
        PipelineError, match=r"(?s)2 of 15 .*cat/0000.png: in another class too: .*dog/other.png: in an"
    ):
        packed(folder)
    data = packed(folder, skip=True)
    assert len(data.train_labels) + len(data.test_labels) == 13


def test_a_long_list_is_cut(folder):
    for number in range(30):
        (folder / f"cat/{number}.txt").write_text(str(number))
    with pytest.raises(PipelineError, match=r"(?s)30 of 44 pictures.*\.\.\. and 10 more"):
        packed(folder)


def other(folder, **classes):
    shutil.rmtree(folder)
    return write_noise(folder, classes)


def nested(folder):
    (folder / "cat/more").mkdir()


def only_one(folder):
    shutil.rmtree(folder / "dog")


def not_utf8(folder):
    (folder / "dog").rename(folder / os.fsdecode(b"d\xffg"))


def in_one_part(folder):
    write_noise(other(folder) / "train", {"cat": 3, "dog": 3})
    write_noise(folder / "test", {"cat": 3})


LAYOUTS = {
    "no folder": (shutil.rmtree, "pictures does not exist.* Expected is"),
    "a file": (lambda folder: shutil.rmtree(folder) or folder.write_text("x"), "pictures is a file.* Expected is"),
    "no class folders": (lambda folder: shutil.rmtree(folder) or folder.mkdir(), "has 0 class folders"),
    "one class": (only_one, "has 1 class folders, but 2 to 1,000 are needed: cat. Expected is"),
    "a class without pictures": (lambda folder: (folder / "cow").mkdir(), "cow contains no pictures. Delete it"),
    "only hidden files": (
        lambda folder: (folder / "cow").mkdir() or (folder / "cow/.DS_Store").touch(),
        "cow contains no pictures. Delete it",
    ),
    "nested folders": (nested, "cat contains the folder more, but only pictures"),
    "names that differ in case": (
        lambda folder: write_noise(folder, {"Cat": 3}),
        "spellings of one class:\n  Cat, cat",
    ),
    "names that differ in form": (
        lambda folder: write_noise(folder, {"caf\u00e9 au lait": 3, "cafe\u0301-au_lait": 3}),
        "spellings of one class",
    ),
    "too few pictures": (lambda folder: other(folder, cat=3, dog=3, cow=2), "cow: 2, at least 3 are needed"),
    "a name that is not UTF-8": (not_utf8, "its name is not UTF-8. Rename it"),
    "a control character": (lambda folder: (folder / "dog").rename(folder / "d\ng"), "control character. Rename it"),
    "a link out of the folder": (lambda folder: (folder / "cow").symlink_to("/etc"), "cow is a link out of"),
    "a class in one part": (in_one_part, "test has no folder of the class dog"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_of_another_layout_is_refused(folder, name):
    change, message = LAYOUTS[name]
    change(folder)
    with pytest.raises(PipelineError, match=f"(?s){message}"):
        packed(folder)
    assert not list(folder.parent.glob("*a.*"))


def test_an_existing_archive_is_not_overwritten(folder):
    (folder.parent / "a.tar.gz").write_text("mine")
    with pytest.raises(PipelineError, match=r"a.tar.gz exists. Delete it, or choose another OUT"):
        packed(folder)
    assert (folder.parent / "a.tar.gz").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a", "OUT is '.*/a', but it should be a file name that ends in .tar.gz"),
        ("a.csv", "should be a file name that ends in .tar.gz"),
        (".tar.gz", "should be a file name that ends in .tar.gz"),
        ("pictures/a.tar.gz", "in the folder of the pictures. Choose a path outside of .*pictures"),
        ("pictures/more/a.tar.gz", "in the folder of the pictures"),
    ],
)
def test_an_archive_is_written_only_where_it_can_be_told_apart(folder, name, message):
    with pytest.raises(PipelineError, match=message):
        packed(folder, name=name)
    assert {path.name for path in folder.iterdir()} == {"cat", "dog"}


def test_two_archives_with_dots_in_their_names_have_a_table_each(folder):
    packed(folder, side=16, name="v1.16.tar.gz")
    packed(folder, side=24, name="v1.24.tar.gz")
    assert {path.name for path in folder.parent.glob("*.csv")} == {"v1.16.csv", "v1.24.csv"}


def test_params_that_cannot_be_set_leave_no_archive(folder):
    (folder.parent / "params.yaml").write_text((folder.parent / "params.yaml").read_text().replace("prepare:", "p:"))
    with pytest.raises(
        PipelineError, match=r"params.yaml has no section `prepare`. `git checkout params.yaml` restores it"
    ):
        packed(folder, write=True)
    assert {path.name for path in folder.parent.iterdir()} == {"params.yaml", "pictures"}


def test_an_unknown_network_in_params_is_refused(folder):
    (folder.parent / "params.yaml").write_text((folder.parent / "params.yaml").read_text().replace(": fast", ": slow"))
    with pytest.raises(PipelineError, match=r"train.model is 'slow', but it should be one of basic"):
        packed(folder)


@pytest.mark.parametrize(
    "name", ["no", "@x", "[", "12:30", "2026-01-01", "a: b", "#x", "~", "\udcff", "a\nb", "caf\u00e9", "x" * 200]
)
def test_data_are_named_as_their_folder_under_any_name(folder, name):
    folder.rename(folder.parent / name)
    packed(folder.parent / name, write=True)
    section = yaml.safe_load((folder.parent / "params.yaml").read_text())["download"]
    assert DownloadParams.of_section("download", section).name == printable(name)[:100]


def test_a_disk_that_fills_up_leaves_no_file(folder):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000)); "
    code = limit + f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['pictures', '64', 'a.tar.gz']\n"
    code += "from pipeline.pack import *\nwith exit_on_error('pack'):\n    main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder.parent, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "File too large" in done.stderr
    assert {path.name for path in folder.parent.iterdir()} == {"params.yaml", "pictures"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "32", "a.tar.gz"], "FOLDER is '' and OUT is 'a.tar.gz'; both are needed: make pack FOLDER="),
        (["pictures", "32", ""], "OUT is ''"),
        (["pictures", "", "a.tar.gz"], "SIDE is '', but it should be a whole number of pixels, 16 to 128"),
        (["pictures", "15", "a.tar.gz"], "SIDE is '15'"),
        (["pictures", "129", "a.tar.gz"], "SIDE is '129'"),
        (["pictures", "64px", "a.tar.gz"], "SIDE is '64px'"),
        (["pictures", "0000000641", "a.tar.gz"], "SIDE is '0000000641'"),
    ],
)
def test_a_missing_or_wrong_option_is_named(folder, arguments, message):
    done = run(ROOT, "pipeline.pack", *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert message in done.stderr
