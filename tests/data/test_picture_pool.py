import os
import signal
import time
from itertools import chain

import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.common.errors import PipelineError
from pipeline.data.picture_pool import AHEAD, BATCH_SIZE, batches, read_batch

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
needs_cores = pytest.mark.skipif(CORES == 1, reason="one core reads in the process itself")


def workers_now():
    return [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """More than the processes read ahead; some are no pictures, or have a reason already."""
    folder, found = tmp_path_factory.mktemp("pictures"), []
    for number in range((AHEAD * CORES + 2) * BATCH_SIZE + 5):
        path = folder / f"{number:05}.png"
        if number % 100 == 7:
            path.write_text("not an image")
        else:
            Image.new("RGB", (20, 20), (number % 256, number // 256, 0)).save(path)
        found.append((path, "a folder" if number % 100 == 9 else ""))
    return found


def test_the_order_and_the_pictures_are_those_of_one_process(files):
    found = list(batches(files, 16))
    assert [len(batch) for batch in found] == [BATCH_SIZE] * (len(files) // BATCH_SIZE) + [5]
    for (file, image), (expected_file, expected) in zip(chain(*found), read_batch(files, 16), strict=True):
        assert file == expected_file
        assert type(image) is type(expected)
        np.testing.assert_array_equal(image, expected)


@needs_cores
def test_pictures_are_read_ahead_but_not_all(files):
    reading = batches(files * 20, 16)
    next(reading)
    workers = workers_now()
    time.sleep(1)
    idle = [worker.cpu_times().user for worker in workers]
    time.sleep(1)
    assert [worker.cpu_times().user for worker in workers] == idle  # they wait until batches are taken
    reading.close()
    assert len(workers) == CORES
    assert not workers_now()


@needs_cores
def test_a_killed_process_ends_with_one_message(files):
    reading = batches(files * 20, 16)
    next(reading)
    workers = workers_now()
    assert len(workers) == CORES
    workers[0].send_signal(signal.SIGKILL)
    with pytest.raises(PipelineError, match="a process that read pictures was killed"):
        list(reading)
