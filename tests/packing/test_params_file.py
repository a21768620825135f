import pytest
import yaml

from pipeline.common.errors import PipelineError
from pipeline.packing.params_file import as_yaml, write_settings

TEXT = """\
# mine
one:   # of two
  name:  "old"   # a name
  many: # before
    - a  # first
    # between
    - b

  # of the next
  numbers: [1.0,   2.0] # three
  empty:
  last: 'x'
two: {a:   ~, b: "0x1"}   # as I like it
lists:
- x
-   y
"""
SETTINGS = {"one": {"name": "no", "many": ["c"], "numbers": [0.5, 0.25], "empty": 3, "last": None}}
CHANGED = """\
# mine
one:   # of two
  name:  'no'   # a name
  many: # before
    - c

  # of the next
  numbers: [0.5, 0.25] # three
  empty: 3
  last: null
two: {a:   ~, b: "0x1"}   # as I like it
lists:
- x
-   y
"""


def written(path, text, settings):
    path.write_bytes(text.encode())
    write_settings(settings, path)
    return path.read_bytes().decode()


def test_only_the_values_of_the_keys_change(tmp_path):
    assert written(tmp_path / "p.yaml", TEXT, SETTINGS) == CHANGED
    assert written(tmp_path / "p.yaml", CHANGED, SETTINGS) == CHANGED


def test_line_ends_of_windows_stay(tmp_path):
    assert written(tmp_path / "p.yaml", TEXT.replace("\n", "\r\n"), SETTINGS) == CHANGED.replace("\n", "\r\n")


def test_a_list_on_one_line_stays_on_it(tmp_path):
    assert written(tmp_path / "p.yaml", "one:\n  many: [a, b] # two\n", {"one": {"many": ["c"]}}) == (
        "one:\n  many: [c] # two\n"
    )


def test_a_missing_key_is_added(tmp_path):
    assert written(tmp_path / "p.yaml", "one:\n  # first\n  a: 1\n", {"one": {"b": 2}}) == (
        "one:\n  # first\n  b: 2\n  a: 1\n"
    )


def test_a_link_and_permissions_stay(tmp_path):
    (tmp_path / "real.yaml").write_text("one:\n  a: 1\n")
    (tmp_path / "real.yaml").chmod(0o640)
    (tmp_path / "p.yaml").symlink_to("real.yaml")
    write_settings({"one": {"a": 2}}, tmp_path / "p.yaml")
    assert (tmp_path / "p.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "one:\n  a: 2\n"
    assert (tmp_path / "real.yaml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "text",
    [
        "two:\n  a: 1\n",
        "one: {a: 1}\n",
        "one: 3\n",
        "one:\n",
        "two: &x 1\none:\n  a: *x\n",
    ],
    ids=["no section", "on one line", "a number", "empty", "an alias"],
)
def test_a_file_in_which_the_keys_cannot_be_set_stays(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"cannot be set in .*p.yaml: one. Each .*git checkout p.yaml.*WRITE=1"):
        write_settings({"one": {"a": 2}}, tmp_path / "p.yaml")
    assert (tmp_path / "p.yaml").read_text() == text


def test_settings_as_text_are_read_back():
    settings = {"one": {"text": "no", "number": 1e-05, "list": [0.1, 2.0], "none": None, "urls": ["file:///a b"]}}
    assert yaml.safe_load(as_yaml(settings)) == settings
