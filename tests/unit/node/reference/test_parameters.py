from __future__ import annotations

import dataclasses

import pytest

from fondaco.consensus.ledger.params import Params, params_from
from fondaco.node.reference import parameters

FIELDS = dataclasses.fields(Params)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_the_page_tells_everything_about_a_parameter(field: dataclasses.Field[int]) -> None:
    (row,) = (line for line in parameters.parameters_page().splitlines() if line.startswith(f"| `{field.name}` |"))
    for fact in (f"{field.default:,}", field.metadata["unit"], field.metadata["meaning"], "genesis"):
        assert fact in row
    assert f"{field.metadata['low']:,} .. {field.metadata['high']:,}" in row


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_defaults_and_both_bounds_of_a_parameter_are_allowed(field: dataclasses.Field[int]) -> None:
    for value in (field.default, field.metadata["low"], field.metadata["high"]):
        assert getattr(params_from({field.name: value}), field.name) == value
