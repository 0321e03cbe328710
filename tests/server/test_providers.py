"""Tests of the execution-provider policy."""

import pytest

from tunesmith_server.errors import ProviderError
from tunesmith_server.providers import ProviderStatus, assert_policy, usable

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def test_require_refuses_a_silent_fallback():
    """A missing provider stops the server, and the error names requested, active and missing ones."""
    with pytest.raises(ProviderError, match=f"requested: {CUDA}, {CPU}; active: {CPU}; missing: {CUDA}"):
        assert_policy(ProviderStatus((CUDA, CPU), (CPU,)), "Require", [CPU])


def test_prefer_goes_on_but_says_so():
    """With Prefer the status is degraded and names what is missing."""
    status = ProviderStatus((CUDA, CPU), (CPU,))
    assert_policy(status, "Prefer", [CPU])
    assert status.degraded
    assert status.missing == (CUDA,)


def test_all_active_is_not_degraded():
    """What was asked for is what runs."""
    status = ProviderStatus((CPU,), (CPU,))
    assert_policy(status, "Require", [CPU])
    assert not status.degraded


def test_a_session_is_asked_only_for_what_the_build_has():
    """ONNX Runtime is not asked for providers that it would only warn about; the CPU is the last resort."""
    assert usable((CUDA, CPU), [CPU, "AzureExecutionProvider"]) == (CPU,)
    assert usable((CUDA,), [CPU]) == (CPU,)
