"""Every technique in search_spaces/ keeps the one contract (see nasx.contract)."""

import pytest

from nasx import registry
from nasx.contract import check


@pytest.mark.parametrize("name", registry.spaces())
def test_space_keeps_the_contract(name):
    assert [str(fault) for fault in check(registry.space(name))] == []


@pytest.mark.parametrize("name", registry.spaces())
def test_space_has_a_study_of_its_own_name(name):
    assert name in registry.studies()
