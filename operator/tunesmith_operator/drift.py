"""Whether an object still is as its manifest says. Pure."""

from typing import Any

from tunesmith_api.quantity import parse_quantity


def drifted(live: Any, desired: Any) -> bool:
    """Whether anything that a manifest states is missing or different in the live object.

    What the manifest does not state (defaults, what other controllers add) does not count. `500m` equals `0.5`.
    """
    if isinstance(desired, dict):
        return not isinstance(live, dict) or any(_key_drifted(live, key, value) for key, value in desired.items())
    if isinstance(desired, list):
        if not isinstance(live, list) or len(live) != len(desired):
            return True
        return any(drifted(one, other) for one, other in zip(live, desired, strict=True))
    return bool(live != desired) and not _same_quantity(live, desired)


def _key_drifted(live: dict[str, Any], key: str, value: Any) -> bool:
    if key not in live:
        # The API server leaves out empty lists, empty objects and false.
        return value not in ({}, [], None, False, "")
    if key == "ownerReferences":
        return not all(any(not drifted(one, wanted) for one in live[key]) for wanted in value)
    return drifted(live[key], value)


def _same_quantity(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool) or not (isinstance(one, str) or isinstance(other, str)):
        return False
    try:
        return parse_quantity(one) == parse_quantity(other)
    except (TypeError, ValueError):
        return False
