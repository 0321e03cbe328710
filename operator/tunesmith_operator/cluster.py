"""The one seam to the API server: dictionaries in, dictionaries out."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from tunesmith_operator import errors
from tunesmith_operator.kinds import Body, ObjectKind, kind_of
from tunesmith_operator.metrics import Metrics

FIELD_MANAGER = "tunesmith-operator"
APPLY = "application/apply-patch+yaml"
#: Longest time for one answer.
TIMEOUT_SECONDS = 30
#: Further tries of a request that did not reach the API server or was asked to come back.
RETRIES = 2
PARALLEL_REQUESTS = 64
PAGE_SIZE = 500


class Cluster(Protocol):
    """What the operator asks of an API server; every method raises a subclass of ApiError."""

    async def get(self, kind: ObjectKind, namespace: str | None, name: str) -> Body | None:
        """The object, or None when it is not there."""

    async def list(self, kind: ObjectKind, namespace: str | None = None, **selectors: str) -> list[Body]:
        """Every object that the selectors (fieldSelector, labelSelector) let through."""

    async def create(self, body: Body) -> Body:
        """Create an object; raises AlreadyExistsError when its name is taken."""

    async def apply(self, body: Body, subresource: str | None = None, *, force: bool = True) -> Body:
        """Server-side apply; metadata.uid in the body refuses any other object of that name with ConflictError.

        Fields that others have set are taken over; without `force` they are a ConflictError.
        """

    async def replace(self, body: Body) -> Body:
        """Replace an object of a known resourceVersion; raises ConflictError when it has changed."""

    async def delete(self, kind: ObjectKind, namespace: str | None, name: str, uid: str) -> None:
        """Delete this very object, its dependents in the background; nothing happens when it is gone."""

    async def raw(self, path: str) -> Any:
        """The decoded answer to a GET of a path."""


_ERRORS: Mapping[int, type[errors.ApiError]] = {
    400: errors.InvalidError,
    401: errors.UnavailableError,
    403: errors.RefusedError,
    404: errors.NotFoundError,
    405: errors.InvalidError,
    409: errors.ConflictError,
    413: errors.InvalidError,
    422: errors.InvalidError,
}


def _error(status: int, text: str) -> errors.ApiError:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    message = str(answer.get("message") or text[:500] or f"HTTP {status}")
    if status == 409 and answer.get("reason") == "AlreadyExists":
        return errors.AlreadyExistsError(message, status)
    return _ERRORS.get(status, errors.UnavailableError)(message, status)


async def connect(metrics: Metrics) -> "KubernetesCluster":
    """A cluster by the pod's service account, else by the kubeconfig."""
    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)
    configuration.connection_pool_maxsize = PARALLEL_REQUESTS
    # The transport would look for a proxy and read ~/.netrc before every request, which costs more than the request.
    configuration.proxy = configuration.proxy or proxy_for(configuration.host)
    configuration.client_session_kwargs = {"trust_env": False}
    return KubernetesCluster(ApiClient(configuration), metrics)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL: HTTPS_PROXY unless NO_PROXY holds for the host."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


class KubernetesCluster:
    """Cluster by the official client's transport: its TLS, tokens and token refresh, none of its models."""

    def __init__(self, client: ApiClient, metrics: Metrics) -> None:
        self._client = client
        self._metrics = metrics

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def get(self, kind: ObjectKind, namespace: str | None, name: str) -> Body | None:
        """The object, or None when it is not there."""
        try:
            found: Body = await self.raw(kind.url(namespace, name))
        except errors.NotFoundError:
            return None
        return found

    async def list(self, kind: ObjectKind, namespace: str | None = None, **selectors: str) -> list[Body]:
        """Every object that the selectors let through, page by page."""
        items: list[Body] = []
        query = {**selectors, "limit": str(PAGE_SIZE)}
        while True:
            page = await self.raw(f"{kind.url(namespace)}?{urlencode(query)}")
            items += page["items"]
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return items

    async def create(self, body: Body) -> Body:
        """Create an object."""
        kind, namespace = kind_of(body), body["metadata"].get("namespace")
        self._metrics.writes.labels("create", kind.name).inc()
        created: Body = await self._request("POST", f"{kind.url(namespace)}?fieldManager={FIELD_MANAGER}", body)
        return created

    async def apply(self, body: Body, subresource: str | None = None, *, force: bool = True) -> Body:
        """Server-side apply."""
        kind, metadata = kind_of(body), body["metadata"]
        url = kind.url(metadata.get("namespace"), metadata["name"], subresource)
        verb = f"apply-{subresource}" if subresource else "apply"
        self._metrics.writes.labels(verb, kind.name).inc()
        manager = f"{FIELD_MANAGER}-{subresource}" if subresource else FIELD_MANAGER
        query = urlencode({"fieldManager": manager, "force": str(force).lower()})
        applied: Body = await self._request("PATCH", f"{url}?{query}", body, APPLY)
        return applied

    async def replace(self, body: Body) -> Body:
        """Replace an object of a known resourceVersion."""
        kind, metadata = kind_of(body), body["metadata"]
        replaced: Body = await self._request("PUT", kind.url(metadata.get("namespace"), metadata["name"]), body)
        return replaced

    async def delete(self, kind: ObjectKind, namespace: str | None, name: str, uid: str) -> None:
        """Delete this very object."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        self._metrics.writes.labels("delete", kind.name).inc()
        try:
            await self._request("DELETE", kind.url(namespace, name), options)
        except (errors.NotFoundError, errors.ConflictError):
            return  # gone, or another object of the same name by now

    async def raw(self, path: str) -> Any:
        """The decoded answer to a GET of a path."""
        return await self._request("GET", path)

    async def _request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        for attempt in range(RETRIES + 1):
            try:
                return await self._once(method, path, body, content)
            except errors.UnavailableError:
                if attempt == RETRIES or method == "POST":
                    raise
                await asyncio.sleep(0.1 * 4**attempt)
        raise AssertionError("unreachable")

    async def _once(self, method: str, path: str, body: Any, content: str) -> Any:
        headers = {"Content-Type": content, "Accept": "application/json"}
        host = self._client.configuration.host
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            response = await self._client.call_api(
                method, host + path, header_params=headers, body=body, _request_timeout=TIMEOUT_SECONDS
            )
            text = (await response.read()).decode()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.UnavailableError(f"{method} {path}: {error or type(error).__name__}") from error
        if response.status >= 300:
            raise _error(response.status, text)
        return json.loads(text) if text else None
