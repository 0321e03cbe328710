"""The server's command line."""

import pytest

from tunesmith_api.modelendpoint import RuntimeSpec
from tunesmith_api.serving import server_arguments
from tunesmith_server.settings import Settings, load_settings


def settings(runtime: RuntimeSpec, *pool_providers: str) -> Settings:
    """What the real server understands."""
    return load_settings(["/model", *server_arguments("bot", runtime, pool_providers)], {})


def test_every_setting_reaches_the_server() -> None:
    """The server reads each flag as the endpoint's field said it."""
    runtime = RuntimeSpec.model_validate(
        {
            "maxConcurrency": 3,
            "maxContext": 99,
            "maxQueue": 7,
            "executionProviders": ["A", "B"],
            "providerPolicy": "Prefer",
        }
    )
    found = settings(runtime)
    assert (found.served_model_name, found.max_concurrency, found.max_context, found.max_queue) == ("bot", 3, 99, 7)
    assert (found.providers, found.provider_policy) == (("A", "B"), "Prefer")


@pytest.mark.parametrize(("own", "providers"), [(["Own"], ("Own",)), ([], ("Pool",))])
def test_the_pools_providers_fill_in(own: list[str], providers: tuple[str, ...]) -> None:
    """An endpoint that names no provider takes its pool's."""
    assert settings(RuntimeSpec.model_validate({"executionProviders": own}), "Pool").providers == providers


def test_defaults_leave_the_server_its_own() -> None:
    """What nobody set is left to the server."""
    found = settings(RuntimeSpec())
    assert (found.max_context, found.providers) == (None, ("CPUExecutionProvider",))
