import subprocess
import sys

import numpy as np
import pytest
from projects import run, set_params, words

from pipeline.common.errors import PipelineError
from pipeline.data.archive import read_archive
from pipeline.data.splits import read_split
from pipeline.prepare import PrepareParams, choose_validation, prepare

OUTPUTS = {
    "train_split": "train.npz",
    "validation_split": "validation.npz",
    "test_split": "test.npz",
    "contact_sheet": "sheet.png",
}


def paths(folder):
    return [folder / name for name in OUTPUTS.values()]


def test_every_image_is_in_one_split_with_its_index_in_the_archive(archive, tmp_path):
    prepare(PrepareParams(validation_images=50, seed=0), archive, *paths(tmp_path))
    train, validation, test = map(read_split, paths(tmp_path)[:3])
    data = read_archive(archive)
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    for split in (train, validation, test):
        assert np.array_equal(split.images, images[split.archive_index])
        assert np.array_equal(split.labels, labels[split.archive_index])
    indices = [*train.archive_index, *validation.archive_index, *test.archive_index]
    assert sorted(indices) == list(range(600))
    assert test.archive_index.tolist() == list(range(500, 600))
    assert len(validation.labels) == 50


def test_two_runs_write_the_same_bytes_and_another_seed_does_not(archive, tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(PrepareParams(validation_images=50, seed=seed), archive, *paths(tmp_path / folder))
    first, second, other = ([path.read_bytes() for path in paths(tmp_path / folder)] for folder in "abc")
    assert first == second
    assert first[1] != other[1]
    assert first[2] == other[2]


def test_classes_are_held_back_in_proportion():
    labels = np.repeat(np.array([0, 1, 2], np.uint8), (600, 300, 100))
    held_back = choose_validation(labels, 3, PrepareParams(validation_images=55, seed=3))
    assert np.bincount(labels[held_back]).tolist() == [33, 17, 5]  # 33, 16.5 and 5.5: the first remainder is rounded up


@pytest.mark.parametrize("number", [2, 9, 10, 11])
def test_a_class_without_training_or_validation_images_is_refused(number):
    labels = np.repeat(np.array([0, 1, 2], np.uint8), (3, 4, 3))
    with pytest.raises(PipelineError, match=rf"prepare.validation_images is {number}, but .*3 to 4 each.*dvc repro"):
        choose_validation(labels, 3, PrepareParams(validation_images=number, seed=0))


def test_an_archive_without_images_of_a_class_is_refused():
    labels = np.array([0, 0, 2, 2], np.uint8)
    with pytest.raises(
        PipelineError, match=r"contain no image of class 1, but batches.meta names 3 classes.*download.urls.*dvc repro"
    ):
        choose_validation(labels, 3, PrepareParams(validation_images=2, seed=0))


def test_a_disk_that_fills_up_leaves_no_file(project, archive):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)); "
    code = limit + "from pipeline.prepare import *; run_stage(prepare, PrepareParams)"
    command = [sys.executable, "-c", code, *words({"archive": archive} | OUTPUTS)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "File too large" in done.stderr
    assert not list(project.glob("*.npz")) + list(project.glob("*.png")) + list(project.glob(".partial*"))


def test_a_failed_prepare_leaves_no_file(project, archive):
    set_params(project, prepare={"validation_images": 499})
    done = run(project, "pipeline.prepare", *words({"archive": archive} | OUTPUTS))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "prepare.validation_images is 499" in done.stderr
    assert not list(project.glob("*.npz")) + list(project.glob(".partial*"))
