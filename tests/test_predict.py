"""Image files of every kind, classified by a model that recognizes colours."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from projects import ROOT, run

from pipeline.common.files import read_json, sha256_of, write_json
from pipeline.data.pictures import files_in, read_image
from pipeline.predict import result_line

RED, GREEN, WHITE = (200, 10, 10), (10, 200, 10), (255, 255, 255)


def save(path, colour=RED, size=(50, 40), mode="RGB", **options):
    Image.new("RGB", size, colour).convert(mode).save(path, **options)
    return path


def test_the_best_classes_come_first_with_their_probabilities(bundle, tmp_path):
    done = run(ROOT, "pipeline.predict", bundle, save(tmp_path / "a.png"), save(tmp_path / "b.jpg", GREEN))
    assert (done.returncode, done.stderr) == (0, "")
    one, two = done.stdout.splitlines()
    assert one == f"{tmp_path}/a.png: red 95.7%  green 2.1%  blue 2.1%"
    assert two.startswith(f"{tmp_path}/b.jpg: green 9")


def test_with_two_classes_two_are_printed_and_with_many_the_best_three():
    two, many = np.array([0.25, 0.75], np.float32), np.full(1000, 0.0005, np.float32)
    many[[7, 999, 500]] = 0.3, 0.2, 0.1
    assert result_line(Path("a.png"), two, ["cat", "dog"], False) == "a.png: dog 75.0%  cat 25.0%"
    names = [f"class {number}" for number in range(1000)]
    assert result_line(Path("a.png"), many, names, False) == "a.png: class 7 30.0%  class 999 20.0%  class 500 10.0%"


def test_json_is_an_object_per_file(bundle, tmp_path):
    (tmp_path / "no.txt").write_text("not an image")
    done = run(ROOT, "pipeline.predict", "--json", bundle, save(tmp_path / "a.png"), tmp_path / "no.txt")
    good, bad = map(json.loads, done.stdout.splitlines())
    assert (good["file"], [entry["class"] for entry in good["predictions"]]) == (
        f"{tmp_path}/a.png",
        ["red", "green", "blue"],
    )
    assert good["predictions"][0]["probability"] == pytest.approx(0.957, abs=1e-3)
    assert bad["file"] == f"{tmp_path}/no.txt"
    assert bad["error"].startswith("it is damaged, or not an image in one of the formats JPEG, PNG, ")


def test_tensorflow_and_other_heavy_libraries_are_not_imported(bundle, tmp_path):
    heavy = "tensorflow keras mlflow pandas onnx scipy sklearn matplotlib pydantic yaml psutil"
    converters = "pipeline.onnx.convert pipeline.onnx.simplify pipeline.registry.store"
    code = (
        "import runpy, sys; runpy.run_module('pipeline.predict', run_name='__main__'); "
        f"print(set(sys.modules) & set('{heavy} {converters}'.split()))"
    )
    command = [sys.executable, "-c", code, bundle, save(tmp_path / "a.png")]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_files_that_are_not_images_are_skipped_and_the_others_are_classified(bundle, tmp_path):
    folder = tmp_path / "pictures of mine"
    folder.mkdir()
    whole = save(folder / "whole.png", size=(100, 100))
    (folder / "truncated.png").write_bytes(whole.read_bytes()[:-60])
    (folder / "empty.jpg").touch()
    (folder / ".hidden").touch()
    save(folder / "z.png", GREEN)
    done = run(ROOT, "pipeline.predict", bundle, folder, tmp_path / "absent.png")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [f"{folder}/whole.png", f"{folder}/z.png"]
    printed = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in printed[:-1]] == [
        f"{folder}/empty.jpg is skipped",
        f"{folder}/truncated.png is skipped",
        f"{tmp_path}/absent.png is skipped",
    ]
    assert printed[-1] == "predict: 3 of the files and folders could not be read; all others are classified."


def test_many_files_are_classified_in_batches(bundle, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(150):
        save(folder / f"{number:03}.png", GREEN if number == 149 else RED, size=(4, 4))
    lines = run(ROOT, "pipeline.predict", bundle, folder).stdout.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == ["red"] * 149 + ["green"]


def test_a_terminal_shows_a_progress_bar_for_many_files(bundle, tmp_path):
    paths = [save(tmp_path / f"{number}.png") for number in range(70)]
    reader, terminal = os.openpty()
    command = [sys.executable, "-m", "pipeline.predict", *map(str, [bundle, *paths])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal, check=True)
    os.close(terminal)
    assert len(done.stdout.splitlines()) == 70
    shown = os.read(reader, 10_000).decode()
    assert "64/70" in shown
    assert shown.endswith(f"[{'#' * 30}] 70/70\r\n")


def test_a_folder_without_files_is_skipped_and_the_others_are_classified(bundle, tmp_path):
    (tmp_path / "empty/.hidden").mkdir(parents=True)
    save(tmp_path / "empty/.hidden/a.png")
    done = run(ROOT, "pipeline.predict", bundle, tmp_path / "empty", save(tmp_path / "a.png"))
    assert done.returncode == 1
    assert done.stdout.startswith(f"{tmp_path}/a.png: red")
    assert f"predict: {tmp_path}/empty is skipped: the folder has no files, apart from hidden ones" in done.stderr


def test_linked_folders_are_read_once_and_dangling_links_are_reported(bundle, tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    for path in (folder / "empty", other):
        path.mkdir(parents=True)
    save(folder / "b.png")
    save(other / "c.png", GREEN)
    for name, target in {"gone.png": "absent", "link": other, "loop": folder, "self": "self", "z": other}.items():
        (folder / name).symlink_to(target)
    (other / "back").symlink_to(folder)
    os.mkfifo(other / "fifo.png")
    done = run(ROOT, "pipeline.predict", bundle, folder)
    assert done.returncode == 1
    assert [line.split(" 9")[0] for line in done.stdout.splitlines()] == [
        f"{folder}/b.png: red",
        f"{folder}/link/c.png: green",
    ]
    assert done.stderr.splitlines() == [
        f"predict: {folder}/gone.png is skipped: No such file or directory",
        f"predict: {folder}/link/back is skipped: it is the folder {folder}, which is read once",
        f"predict: {folder}/link/fifo.png is skipped: it is not a regular file, but a folder, a pipe or a device",
        f"predict: {folder}/loop is skipped: it is the folder {folder}, which is read once",
        f"predict: {folder}/self is skipped: Too many levels of symbolic links",
        f"predict: {folder}/z is skipped: it is the folder {folder}/link, which is read once",
        "predict: 6 of the files and folders could not be read; all others are classified.",
    ]


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert list(files_in(tmp_path)) == [(tmp_path, "Permission denied")]


def test_names_with_control_characters_are_escaped_on_one_line(bundle, tmp_path):
    folder = tmp_path / "names"
    folder.mkdir()
    save(tmp_path / "a.png").rename(folder / "\x1b[31mred\n.png")
    (folder / "bad\n\x1b]0;title\x07.png").touch()
    done = run(ROOT, "pipeline.predict", bundle, folder)
    assert done.stdout.startswith(rf"{folder}/\x1b[31mred\n.png: red 9")
    assert done.stderr.startswith(rf"predict: {folder}/bad\n\x1b]0;title\x07.png is skipped: ")
    assert (done.stdout.count("\n"), done.stderr.count("\n")) == (1, 2)


def test_other_class_names_than_those_of_the_model_are_refused(bundle, tmp_path):
    (bundle / "labels.txt").write_text("red\nblue\ngreen\n")
    manifest = read_json(bundle / "manifest.json", "")
    manifest["files"]["labels.txt"]["sha256"] = sha256_of(bundle / "labels.txt")
    write_json(bundle / "manifest.json", manifest)
    done = run(ROOT, "pipeline.predict", bundle, save(tmp_path / "a.png"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f'predict: {bundle}/labels.txt has the classes ["red", "blue", "green"], but those of model.onnx are '
        '["red", "green", "blue"]. Copy the bundle again, or run `make export`.\n'
    )


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
CLOSED = "predict: standard output is closed, so no result can be printed. Redirect it to a file.\n"
FULL = "predict: [Errno 28] No space left on device. Free disk space"
STREAMS = {  # redirection -> the start of stdout and of stderr
    "<&-": ("GOOD: red", "predict: BAD is skipped"),
    ">&-": ("", CLOSED),
    "2>&-": ("GOOD: red", ""),
    "<&- >&- 2>&-": ("", ""),
    ">/dev/full": ("", "predict: BAD is skipped"),
    "2>/dev/full": ("GOOD: red", ""),
    ">/dev/full 2>&1": ("", ""),
}


@pytest.mark.parametrize("redirection", STREAMS)
@pytest.mark.parametrize("option", ["", "-O", "-OO"])
def test_closed_streams_full_disks_and_optimised_python_end_well(bundle, tmp_path, redirection, option):
    (bad := tmp_path / "b.png").touch()
    good = save(tmp_path / "a.png")
    command = f"'{sys.executable}' {option} -m pipeline.predict {bundle} {good} {bad} {redirection}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=BUFFERED, capture_output=True, text=True)
    out, err = STREAMS[redirection]
    assert done.returncode in (1, 120)  # 120 is Python's own, if it cannot flush stderr
    for printed, start in ((done.stdout, out), (done.stderr, err)):
        start = start.replace("GOOD", str(good)).replace("BAD", str(bad))
        assert printed.startswith(start) if start else printed == ""
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_full_disk_is_reported(bundle, tmp_path):
    command = f"'{sys.executable}' -m pipeline.predict {bundle} {save(tmp_path / 'a.png')} >/dev/full"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=BUFFERED, capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith(FULL), done.stderr.count("\n")) == (1, True, 1)


def test_a_file_name_that_is_not_valid_text_is_escaped(bundle, tmp_path):
    save(tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"\xff.png"))
    done = run(ROOT, "pipeline.predict", bundle, tmp_path, PYTHONIOENCODING="utf-8:strict")
    assert "/\\udcff.png: red 9" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_ends_the_command_without_an_error(bundle, tmp_path):
    picture = save(tmp_path / "a.png")
    command = f"'{sys.executable}' -m pipeline.predict {bundle} $(yes {picture} | head -1000) | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.count("red"), done.stderr) == (1, "")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_numbers_are_refused(tmp_path, mode):
    Image.new(mode, (40, 40), 1).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=f"mode {mode}.*convert it to 8 bits"):
        read_image(tmp_path / "deep.tif", 32)


def test_another_model_file_is_refused(bundle, tmp_path):
    shutil.copy(ROOT / "README.md", bundle / "model.onnx")
    done = run(ROOT, "pipeline.predict", bundle, save(tmp_path / "a.png"))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "model.onnx is not the file in the manifest" in done.stderr


@pytest.mark.parametrize("side", [16, 32, 64])
def test_the_square_in_the_middle_is_resized_by_averaging(tmp_path, side):
    wide = np.zeros((64, 200, 3), np.uint8)
    wide[:, 68:132] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    Image.fromarray(wide).save(tmp_path / "wide.png")
    means = wide[:, 68:132].reshape(side, 64 // side, side, 64 // side, 3).mean((1, 3))
    np.testing.assert_allclose(read_image(tmp_path / "wide.png", side), means, atol=1)


def test_an_image_of_the_networks_size_does_not_change(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "same.png")
    np.testing.assert_array_equal(read_image(tmp_path / "same.png", 32), pixels)


def test_a_small_image_is_enlarged(tmp_path):
    assert read_image(save(tmp_path / "dot.png", size=(1, 1)), 32).shape == (32, 32, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_is_converted_to_rgb(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    image = read_image(save(tmp_path / f"white.{suffix}", WHITE, mode=mode), 32)
    assert (image.dtype, image.shape, image.min()) == (np.uint8, (32, 32, 3), 255)


def test_16_bits_are_scaled_down(tmp_path):
    Image.fromarray(np.full((40, 40), 0x8080, np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", 32), 0x80)


def test_transparency_becomes_white(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png", 32), 255)


def test_an_image_is_rotated_by_its_exif_orientation(tmp_path):
    picture = Image.new("RGB", (32, 32), RED)
    picture.paste(GREEN, (0, 0, 16, 32))  # green left, red right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated clockwise by 90 degrees
    picture.save(tmp_path / "turned.png", exif=exif)
    upright = read_image(tmp_path / "turned.png", 32)
    assert (upright[4, 16].tolist(), upright[28, 16].tolist()) == (list(GREEN), list(RED))


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("side", [30_000, 12_000])  # above the limit of Pillow's error, and of its warning
def test_a_decompression_bomb_is_refused_before_it_is_opened(bundle, tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    done = run(ROOT, "pipeline.predict", bundle, bomb)
    assert done.returncode == 1
    assert f"{bomb} is skipped: Image size ({side * side} pixels) exceeds limit" in done.stderr
