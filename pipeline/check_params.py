"""Check every section of params.yaml before the first stage starts: python -m pipeline.check_params"""

from pipeline.download import DownloadParams
from pipeline.errors import PipelineError, one_message
from pipeline.evaluate import EvaluateParams
from pipeline.export import ExportParams
from pipeline.near_duplicates import NearDuplicatesParams
from pipeline.params import read_params
from pipeline.prepare import PrepareParams
from pipeline.release import ReleaseParams
from pipeline.robustness import RobustnessParams
from pipeline.slices import SlicesParams
from pipeline.suspect_labels import SuspectLabelsParams
from pipeline.train import TrainParams
from pipeline.validate import ValidateParams

SECTIONS = {
    "download": DownloadParams,
    "prepare": PrepareParams,
    "validate": ValidateParams,
    "train": TrainParams,
    "evaluate": EvaluateParams,
    "export": ExportParams,
    "release": ReleaseParams,
    "near_duplicates": NearDuplicatesParams,
    "slices": SlicesParams,
    "suspect_labels": SuspectLabelsParams,
    "robustness": RobustnessParams,
}


def check_params() -> None:
    """Raise `PipelineError` with everything that is wrong in params.yaml."""
    sections = read_params()
    wrong = [
        f"section `{name}` is unknown: remove it, or correct its name" for name in sections.keys() - SECTIONS.keys()
    ]
    for name, params_class in SECTIONS.items():
        try:
            params_class.of_section(name, sections.get(name, {}))
        except PipelineError as error:
            wrong.append(str(error))
    if wrong:
        raise PipelineError("\n".join(wrong))


if __name__ == "__main__":
    with one_message("params"):
        check_params()
