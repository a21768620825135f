import os
import subprocess
import sys

from conftest import ROOT

from pipeline.keras_start import without_chatter


def test_start_up_prints_nothing_and_later_errors_show():
    code = "import sys; from pipeline.keras_start import start_keras; start_keras().ops.ones(1); print('end', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "end\n")


def test_what_is_no_chatter_is_let_through(capfd):
    with without_chatter():
        os.write(2, b"I0000 00:00:1.2 5 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"E0000 00:00:1.2 5 memory.cc:9] out of memory\n")
        os.write(2, b"E0000 00:00:1.2 5 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)\n")
    assert capfd.readouterr().err == "E0000 00:00:1.2 5 memory.cc:9] out of memory\n"


def test_what_was_held_back_shows_where_the_block_fails(capfd):
    try:
        with without_chatter():
            os.write(2, b"a library is missing\n")
            raise ImportError("no tensorflow")
    except ImportError:
        pass
    assert capfd.readouterr().err == "a library is missing\n"
