"""Conditions and outcomes."""

from __future__ import annotations

import math

import pytest

from medsynth_ext.claims import Claim, Condition, Results


@pytest.mark.parametrize(
    ("relation", "limit", "held"),
    [("<=", 2.0, True), ("<", 2.0, False), (">=", 2.0, True), (">", 2.0, False), (">", 1.9, True), ("<=", 1.9, False)],
)
def test_condition_compares_the_mean_over_seeds(relation: str, limit: float, held: bool) -> None:
    condition = Condition("x", (1.0, 3.0), relation, limit)
    assert condition.mean == 2.0
    assert condition.held is held


def test_a_number_that_is_not_finite_never_holds() -> None:
    for relation in ("<=", ">="):
        condition = Condition("x", (1.0, math.nan), relation, 0.0)
        assert not condition.held
        assert condition.record()["measured"] is None
        assert condition.record()["per_seed"] == [1.0, None]


def test_unknown_relation_and_missing_values_are_refused() -> None:
    with pytest.raises(ValueError, match="relation must be one of"):
        Condition("x", (1.0,), "==", 1.0)
    with pytest.raises(ValueError, match="needs at least one value"):
        Condition("x", (), "<=", 1.0)


def test_a_claim_holds_only_when_all_conditions_do_and_says_which_failed() -> None:
    results = Results({"a": {0: {"v": 1.0}, 1: {"v": 3.0}}})

    def judge(r: Results) -> list[Condition]:
        values = tuple(r.per_seed(lambda f: f["v"], "a"))
        return [Condition("first", values, ">=", 1.0), Condition("second", values, ">=", 2.5)]

    outcome = Claim("7", "A is big.", ("a",), judge).outcome(results, reason="A is small by nature")
    assert not outcome.held
    record = outcome.record()
    assert record["wanted"] == "first >= 1; second >= 2.5"
    assert [part["held"] for part in record["measured"]] == [True, False]
    assert "second is 2, wanted >= 2.5" in record["reason"]
    assert "1 of 2 seeds fulfil it" in record["reason"]
    assert "first" not in record["reason"]
    assert record["reason"].endswith("A is small by nature")


def test_a_held_claim_has_no_reason() -> None:
    claim = Claim("7", "A.", ("a",), lambda r: [Condition("v", tuple(r.per_seed(lambda f: f["v"], "a")), ">", 0.0)])
    assert claim.outcome(Results({"a": {0: {"v": 1.0}}}), reason="no").reason == ""


def test_pairs_of_arms_are_compared_seed_by_seed() -> None:
    results = Results({"a": {0: {"v": 5.0}, 1: {"v": 9.0}}, "b": {0: {"v": 1.0}, 1: {"v": 2.0}}})
    assert results.per_seed(lambda x, y: x["v"] - y["v"], "a", "b") == [4.0, 7.0]
