from __future__ import annotations

import pytest

from tests.helpers import make_runner
from tests.helpers.make_runner import PRUNED, copy_tree, matrix, runs, settings


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """The copy of the code that all matrices of these tests are trained with."""
    make_runner.TREE = copy_tree(tmp_path_factory.mktemp("tree"))
    return make_runner.TREE


@pytest.fixture(scope="session")
def three(tree, tmp_path_factory):
    """A configuration of three runs that carry very different states: momentum, resets, compact vectors."""
    return settings(tmp_path_factory.mktemp("three") / "config", ("sgd", "adamwspam", "adamwprune"), PRUNED)


@pytest.fixture(scope="session")
def calm(three, tmp_path_factory):
    """The folders of these three as nothing disturbed them, by id."""
    results = tmp_path_factory.mktemp("calm")
    code, _, err = matrix(three, results, "JOBS=2")
    assert code == 0, err
    found = runs(results)
    assert len(found) == 3
    return found
