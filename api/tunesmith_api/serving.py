"""An endpoint's runtime settings as the server's command line, the same in a pod and on a machine. Pure."""

from collections.abc import Sequence

from tunesmith_api.enums import ProviderPolicy
from tunesmith_api.modelendpoint import RuntimeSpec


def server_arguments(name: str, runtime: RuntimeSpec, pool_providers: Sequence[str] = ()) -> list[str]:
    """Flags of `python -m tunesmith_server`.

    Args:
        name: name of the model in the API.
        runtime: the endpoint's settings.
        pool_providers: execution providers of the pool, where the endpoint names none.
    """
    options: dict[str, object] = {
        "--served-model-name": name,
        "--max-concurrency": runtime.max_concurrency,
        "--max-context": runtime.max_context,
        "--max-queue": runtime.max_queue,
        "--providers": ",".join(runtime.execution_providers or pool_providers) or None,
        "--provider-policy": ProviderPolicy(runtime.provider_policy).value,
    }
    return [part for flag, value in options.items() if value is not None for part in (flag, str(value))]
