"""Drift: what a manifest states and the live object does not have."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_operator.drift import drifted

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("live", "desired", "expected"),
    [
        ({"a": 1, "default": 2}, {"a": 1}, False),
        ({"a": 1}, {"a": 2}, True),
        ({}, {"a": 1}, True),
        ({}, {"a": []}, False),
        ({}, {"suspend": False}, False),
        ({"suspend": True}, {"suspend": False}, True),
        ({"cpu": "500m"}, {"cpu": "0.5"}, False),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}, False),
        ({"memory": "2Gi"}, {"memory": "1024Mi"}, True),
        ({"args": ["a", "b"]}, {"args": ["a"]}, True),
        ({"args": [{"a": 1, "b": 2}]}, {"args": [{"a": 1}]}, False),
        ({"ownerReferences": [{"uid": "x"}, {"uid": "y"}]}, {"ownerReferences": [{"uid": "y"}]}, False),
        ({"ownerReferences": [{"uid": "x"}]}, {"ownerReferences": [{"uid": "y"}]}, True),
        ({"replicas": True}, {"replicas": "1"}, True),
    ],
)
def test_drift(live: Any, desired: Any, *, expected: bool) -> None:
    """Defaults and quantities written differently are no drift; anything else that differs is."""
    assert drifted(live, desired) is expected


@given(JSON)
def test_an_object_does_not_drift_from_itself(value: Any) -> None:
    """Whatever was applied and is there unchanged needs no second write."""
    assert not drifted(value, value)
