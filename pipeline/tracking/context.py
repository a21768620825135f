"""What MLflow adds to every run and model: the user and the git remote, without credentials."""

import getpass
from functools import cache

from mlflow.tracking.context.abstract_context import RunContextProvider
from mlflow.tracking.context.git_context import GitRunContext
from mlflow.tracking.context.registry import _run_context_provider_registry
from mlflow.utils.mlflow_tags import MLFLOW_GIT_REPO_URL, MLFLOW_USER

from pipeline.common.urls import hide_secrets


class ContextWithoutCredentials(RunContextProvider):
    """The last provider, so it replaces MLflow's own tags.

    MLflow (3.17) tags the name of the store's login, which can be a token, and the remote with user and password.
    """

    def in_context(self) -> bool:
        """Always."""
        return True

    def tags(self) -> dict[str, str]:
        """The tags for the user's name in the operating system, and for the address of the git remote if there is one."""
        remote = GitRunContext().tags().get(MLFLOW_GIT_REPO_URL)
        return {MLFLOW_USER: _user_name()} | ({MLFLOW_GIT_REPO_URL: hide_secrets(remote)} if remote else {})


@cache
def hide_credentials_in_context() -> None:
    """Use the provider in this process."""
    _run_context_provider_registry.register(ContextWithoutCredentials)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container whose user has no name
        return "unknown"
