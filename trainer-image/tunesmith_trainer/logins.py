"""A tracker's login as it is now: tokens live for an hour, trainings longer."""

import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import certifi
import httpx

from tunesmith_trainer.credentials import hide, secret_parts
from tunesmith_trainer.errors import ServiceUnavailableError

#: The keys of a service principal, and those that it may have as well.
_PRINCIPAL, _PRINCIPAL_OPTIONAL = ("tenant-id", "client-id", "client-secret"), ("authority", "scope")
#: Alternatives; one of them must be there whole.
LOGIN_KEYS = (("token",), ("username", "password"), _PRINCIPAL)
_AUTHORITY = "https://login.microsoftonline.com"
#: What Azure ML's API of MLflow wants tokens for: it is one of Azure's resource manager.
_SCOPE = "https://management.azure.com/.default"
_TIMEOUT_SECONDS = 3.0
#: A token is renewed this long before its end, or at half of its life where that is shorter.
_EARLY_SECONDS = 300.0


@dataclass(frozen=True)
class _Token:
    """A token that was bought with some keys, and when to buy the next one."""

    text: str
    renew_at: float
    keys: Mapping[str, str]


class Login:
    """The login in a mounted Secret, whose files Kubernetes replaces when the Secret changes.

    Args:
        folder: where the Secret is mounted; None for no login.
        clock: seconds.
    """

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._token = _Token("", 0.0, {})
        self._secrets: set[str] = set()

    def is_complete(self) -> bool:
        """Whether the Secret has the keys of one alternative."""
        values = self._read()
        return any(all(values.get(key) for key in alternative) for alternative in LOGIN_KEYS)

    def current(self) -> dict[str, str]:
        """Keys username and password, or token, as the Secret has them now; a service principal's token is renewed.

        Raises:
            httpx.TransportError: the authority does not answer.
            ServiceUnavailableError: it gives no token.
        """
        values = self._read()
        named = next((names for names in LOGIN_KEYS if all(values.get(key) for key in names)), ())
        if named is not _PRINCIPAL:
            return {key: values[key] for key in named}
        keys = {key: values[key] for key in (*_PRINCIPAL, *_PRINCIPAL_OPTIONAL) if values.get(key)}
        if keys != self._token.keys or self._clock() >= self._token.renew_at:
            self._token = self._buy(keys)
            self._secrets.update(secret_parts({"token": self._token.text}))
        return {"token": self._token.text}

    def hide(self, text: str) -> str:
        """A text without any secret that this login ever had."""
        return hide(text, sorted(self._secrets, key=len, reverse=True))

    def _read(self) -> dict[str, str]:
        known = {key for alternative in LOGIN_KEYS for key in alternative} | set(_PRINCIPAL_OPTIONAL)
        paths = [self._folder / key for key in sorted(known)] if self._folder else []
        values = {path.name: path.read_text(encoding="utf-8").strip() for path in paths if path.is_file()}
        self._secrets.update(secret_parts(values))
        return values

    def _buy(self, keys: Mapping[str, str]) -> _Token:
        """By the client-credentials flow of OAuth 2.0 (RFC 6749, 4.4), as Microsoft Entra has it."""
        began = self._clock()
        url = f"{keys.get('authority', _AUTHORITY).rstrip('/')}/{keys['tenant-id']}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": keys["client-id"],
            "client_secret": keys["client-secret"],
            "scope": keys.get("scope", _SCOPE),
        }
        roots = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
        answer = httpx.post(url, data=form, verify=roots, timeout=_TIMEOUT_SECONDS)
        if answer.status_code != httpx.codes.OK:
            raise ServiceUnavailableError(f"{url} gives no token: {answer.status_code} {answer.text[:200]}")
        found = answer.json()
        life = float(found["expires_in"])
        return _Token(found["access_token"], began + max(life - _EARLY_SECONDS, life / 2), dict(keys))
