"""Execution providers: what was asked for, what is active, and what to do about a difference.

ONNX Runtime itself only warns and computes on the CPU; here nothing falls back unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith_server.errors import ProviderError

ProviderPolicy = Literal["Require", "Prefer"]
CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class ProviderStatus:
    """Providers by name, in order of preference."""

    requested: tuple[str, ...]
    active: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Requested providers that are not active."""
        return tuple(name for name in self.requested if name not in self.active)

    @property
    def degraded(self) -> bool:
        """Whether something runs elsewhere than where it was asked to."""
        return bool(self.missing)


def usable(requested: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """The requested providers that this build has; the CPU when none is left, so that a session can be made at all."""
    return tuple(name for name in requested if name in available) or (CPU,)


def assert_policy(status: ProviderStatus, policy: ProviderPolicy, available: Sequence[str]) -> None:
    """Accept `status` or refuse to start.

    Raises:
        ProviderError: the policy is Require and a requested provider is not active.
    """
    if policy == "Require" and status.degraded:
        raise ProviderError(
            f"execution providers requested: {', '.join(status.requested)}; active: {', '.join(status.active)}; "
            f"missing: {', '.join(status.missing)}. This image has {', '.join(available)}. "
            "Use an image with the missing provider, or --provider-policy Prefer to run without it.",
        )
