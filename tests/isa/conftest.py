"""The programs of this folder, crossed once for all its tests."""

import functools

import pytest
from crossed import Crossed, cross


@pytest.fixture(scope="session")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Crossed:
    """The folder of the programs of a processor family, built when first asked for; their assembly is there too."""
    return functools.cache(lambda family: cross(family, tmp_path_factory.mktemp(family)))
