"""Run the stages of a file that .dvcignore hides, after those of dvc.yaml: python -m pipeline.repro evidence/dvc.yaml

DVC's commands read every dvc.yaml that .dvcignore does not hide, and many fail if an output was never made. So
.dvcignore hides evidence/ and tune/, and only this process reads .dvcignore without that line.
"""

import sys

from dvc.cli import main
from dvc.fs import FileSystem
from dvc.ignore import DvcIgnorePatterns


def show(folder: str) -> None:
    """Make a hidden folder visible to DVC in this process."""
    read = DvcIgnorePatterns.from_file

    def without_hidden(path: str, fs: FileSystem, name: str) -> DvcIgnorePatterns:
        patterns = read(path, fs, name)
        shown = [each for each in patterns.pattern_list if each.patterns != f"/{folder}/"]
        return DvcIgnorePatterns(shown, patterns.dirname, patterns.sep)

    DvcIgnorePatterns.from_file = without_hidden


if __name__ == "__main__":
    (file,) = sys.argv[1:]
    show(file.split("/")[0])
    sys.exit(main(["repro", file]))
