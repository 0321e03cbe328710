"""The operator's settings: environment variables, read once at the start."""

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.jobconfig import OWN_VARIABLES
from tunesmith_operator.errors import SettingsError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_VARIABLE_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")

#: Environment variables of a container: names and values.
Variables = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Images:
    """Container images of the pods that the operator makes, and how kubelets pull them."""

    trainer: str
    server: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class GangSettings:
    """How trainings of several workers are treated.

    Attributes:
        wait_seconds: how long some workers may hold nodes while the others find none.
        closed_namespaces: namespaces where the chart keeps traffic from the pods of jobs.
    """

    wait_seconds: float = 300
    closed_namespaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """All settings.

    Attributes:
        images: the default images; a pool may override them.
        gangs: how trainings of several workers are treated.
        trainer_env: further environment variables of every stage's container.
        watch_namespaces: namespaces to serve; empty for the whole cluster.
        node_access: whether the operator may read nodes; without it pools are trusted to have room.
        pod_name: name of this replica in the Lease.
        pod_namespace: namespace of the Lease; leader election is off when empty.
        lease_seconds: how long a silent leader keeps the Lease.
        metrics_port: where metrics are served.
        health_port: where liveness and readiness are served.
        host: address that the ports are bound to.
        workers: reconciliations at the same time.
        resync_seconds: how often every object is reconciled without cause.
        poll_seconds: how often the progress of a training pod is asked.
        log_level: level of the JSON logs.
    """

    images: Images
    gangs: GangSettings = GangSettings()
    trainer_env: Variables = ()
    watch_namespaces: tuple[str, ...] = ()
    node_access: bool = True
    pod_name: str = "operator"
    pod_namespace: str = ""
    lease_seconds: int = 15
    metrics_port: int = 8081
    health_port: int = 8080
    host: str = "0.0.0.0"  # noqa: S104 - a pod's ports
    workers: int = 16
    resync_seconds: float = 600
    poll_seconds: float = 5
    log_level: str = "INFO"

    @property
    def clusterwide(self) -> bool:
        """Whether all namespaces are served."""
        return not self.watch_namespaces


def _number(env: Mapping[str, str], name: str, default: float, *, least: float = 0.1) -> float:
    text = env.get(name) or str(default)
    try:
        found = float(text)
    except ValueError as error:
        raise SettingsError(f"{name}={text!r} is no number") from error
    if not (least <= found < float("inf")):
        raise SettingsError(f"{name}={text!r} is below {least:g} or not finite")
    return found


def _whole(env: Mapping[str, str], name: str, default: int, *, least: int = 1, most: int = 65_535) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(f"{name}={text!r} is no whole number from {least} to {most}")
    return int(text)


def _one_of(env: Mapping[str, str], name: str, default: str, known: tuple[str, ...]) -> str:
    text = env.get(name) or default
    if text not in known:
        raise SettingsError(f"{name}={text!r} is none of {', '.join(known)}")
    return text


def _flag(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = env.get(name, "").lower()
    if text not in {"", "true", "false"}:
        raise SettingsError(f"{name}={text!r} is neither true nor false")
    return text == "true" if text else default


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _variables(env: Mapping[str, str], name: str) -> Variables:
    """The variables of a JSON object; a value may be a password, so that no message shows one."""
    try:
        found = json.loads(env.get(name) or "{}")
    except ValueError as error:
        raise SettingsError(f"{name} is no JSON object: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{name} is no JSON object of names and values")
    for key, value in found.items():
        if not isinstance(value, str) or not _VARIABLE_NAME.fullmatch(key):
            raise SettingsError(f"{name}: {key!r} is no name of a variable, or its value is no text; quote numbers")
        if key in OWN_VARIABLES:
            raise SettingsError(f"{name}: {key!r} is set by the operator in each pod; leave it out")
    return tuple(found.items())


def _required(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise SettingsError(f"{name} is not set; it names a container image, as in registry/tunesmith/trainer:0.1.0")
    return env[name]


def load_settings(env: Mapping[str, str] = os.environ) -> Settings:
    """The settings of an environment.

    Raises:
        SettingsError: a variable is missing or cannot be understood.
    """
    options: dict[str, Any] = {
        "node_access": _flag(env, "TUNESMITH_NODE_ACCESS", default=True),
        "pod_name": env.get("TUNESMITH_POD_NAME") or socket.gethostname(),
        "pod_namespace": env.get("TUNESMITH_POD_NAMESPACE", ""),
        "lease_seconds": _whole(env, "TUNESMITH_LEASE_SECONDS", 15),
        "metrics_port": _whole(env, "TUNESMITH_METRICS_PORT", 8081),
        "health_port": _whole(env, "TUNESMITH_HEALTH_PORT", 8080),
        "host": env.get("TUNESMITH_HOST") or "0.0.0.0",  # noqa: S104 - a pod's ports
        "workers": _whole(env, "TUNESMITH_WORKERS", 16),
        "resync_seconds": _number(env, "TUNESMITH_RESYNC_SECONDS", 600),
        "poll_seconds": _number(env, "TUNESMITH_POLL_SECONDS", 5),
        "log_level": _one_of(env, "TUNESMITH_LOG_LEVEL", "INFO", LOG_LEVELS),
    }
    images = Images(
        trainer=_required(env, "TUNESMITH_TRAINER_IMAGE"),
        server=_required(env, "TUNESMITH_SERVER_IMAGE"),
        pull_policy=_one_of(env, "TUNESMITH_IMAGE_PULL_POLICY", "IfNotPresent", PULL_POLICIES),
        pull_secrets=_names(env.get("TUNESMITH_IMAGE_PULL_SECRETS", "")),
    )
    gangs = GangSettings(
        wait_seconds=_number(env, "TUNESMITH_GANG_WAIT_SECONDS", 300),
        closed_namespaces=_names(env.get("TUNESMITH_CLOSED_NAMESPACES", "")),
    )
    trainer_env = _variables(env, "TUNESMITH_TRAINER_ENV")
    namespaces = _names(env.get("TUNESMITH_WATCH_NAMESPACES", ""))
    return Settings(images=images, gangs=gangs, trainer_env=trainer_env, watch_namespaces=namespaces, **options)
