"""Trained workdirs that the tests of encoders and galleries share."""

import pytest
from search.toy import make_workdir


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("weights") / "run")


@pytest.fixture(scope="session")
def trained_again(tmp_path_factory):
    """The same architecture with other parameters."""
    return make_workdir(tmp_path_factory.mktemp("weights") / "other", seed=1)
