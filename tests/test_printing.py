import json

import numpy as np
import pytest

from nasx.errors import NasxError
from nasx.nearest import hint, nearest
from nasx.printing import assignments, cell, emit, quantities, table


def test_quantities():
    assert quantities("5M, 400k,1.5g,7,2e6") == [5_000_000, 400_000, 1_500_000_000, 7, 2_000_000]
    with pytest.raises(NasxError, match="'5X' is not a quantity: write it as 5M"):
        quantities("5M,5X")


def test_assignments_are_yaml():
    assert assignments(["a=3", "b=[1, 2]", "c=x", "d=1e3"]) == {
        "a": 3, "b": [1, 2], "c": "x", "d": 1000,
    }  # fmt: skip


def test_a_table_aligns_numbers_on_the_right():
    text = table([{"name": "a", "n": 5}, {"name": "bcd", "n": 12345, "more": True}])
    assert text.splitlines() == ["name       n  more", "a          5  -", "bcd   12,345  yes"]


def test_cells_are_short():
    assert cell(None) == "-"
    assert cell({"a": 0.5, "b": [1, 2]}) == "a=0.5 b=1, 2"
    assert len(cell("x" * 500)) == 60


def test_json_has_no_nan(capsys):
    emit({"a": float("nan"), "b": np.float64(2.5), "c": (1, float("inf"))})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": 2.5, "c": [1, None]}


@pytest.mark.parametrize(
    ("word", "words", "near"),
    [
        ("nsga", ["auto", "gp", "local", "tpe"], "local"),
        ("Top1", ["top1", "macs"], "top1"),
        ("latency", ["latency_ms", "macs"], "latency_ms"),
        ("objectivs", ["objectives", "constraints"], "objectives"),
        ("digits_in_photos", ["digits", "digits-in-photos"], "digits-in-photos"),
        ("zzz", ["auto", "gp"], None),
        ("fidel", ["fidelity", "final"], "fidelity"),
    ],
)
def test_the_nearest_word(word, words, near):
    assert nearest(word, words) == near


def test_a_hint_lists_the_valid_where_none_is_near():
    assert hint("zzz", ["a", "b"]) == "valid are a, b"
    assert hint("zzz", []) == "there is none"
