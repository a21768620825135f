"""Run the stages of evidence/dvc.yaml after those of dvc.yaml: python -m pipeline.repro_evidence

DVC's commands read every dvc.yaml that .dvcignore does not hide, and many fail if an output was never made. So
.dvcignore hides evidence/, and only this process reads .dvcignore without that line.
"""

import sys

from dvc.cli import main
from dvc.fs import FileSystem
from dvc.ignore import DvcIgnorePatterns

HIDDEN = "/evidence/"


def show_evidence() -> None:
    """Make evidence/dvc.yaml visible to DVC in this process."""
    read = DvcIgnorePatterns.from_file

    def without_hidden(path: str, fs: FileSystem, name: str) -> DvcIgnorePatterns:
        patterns = read(path, fs, name)
        shown = [each for each in patterns.pattern_list if each.patterns != HIDDEN]
        return DvcIgnorePatterns(shown, patterns.dirname, patterns.sep)

    DvcIgnorePatterns.from_file = without_hidden


if __name__ == "__main__":
    show_evidence()
    sys.exit(main(["repro", "evidence/dvc.yaml"]))
