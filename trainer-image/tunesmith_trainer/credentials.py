"""The keys of a Secret that an input or the output needs, read from files and never shown."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tunesmith_api import JobConfig, Scheme
from tunesmith_api.finetunejob import SecretReference
from tunesmith_trainer.errors import InputNotFoundError

HIDDEN = "[hidden]"
#: Shorter values are names or switches; hiding them would hide half of every message.
_SHORTEST_SECRET = 6


@dataclass(frozen=True)
class Keys:
    """The keys that a scheme reads.

    Attributes:
        needed: alternatives; one of them must be there whole.
        optional: what may be there as well.
        public: what is enough to read what is public, by anonymous requests.
    """

    needed: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    public: tuple[str, ...] = ()

    def have_enough(self, values: Mapping[str, str], *, writes: bool) -> bool:
        """Whether one of the alternatives is there whole."""
        enough = self.needed if writes or not self.public else (*self.needed, self.public)
        return any(all(values.get(key) for key in alternative) for alternative in enough)


#: The keys of each scheme's secret. The first alternative is the one that a message asks for.
KEYS: dict[Scheme, Keys] = {
    Scheme.HF: Keys((("token",),)),
    Scheme.HTTPS: Keys((("token",),)),
    Scheme.S3: Keys((("access-key-id", "secret-access-key"),), ("session-token", "region", "endpoint")),
    Scheme.GS: Keys((("service-account.json",),), ("endpoint",)),
    Scheme.AZ: Keys((("account-name", "account-key"), ("account-name", "sas-token")), ("endpoint",), ("account-name",)),
    Scheme.OCI: Keys(((".dockerconfigjson",), ("username", "password"), ("plain-http",)), ("plain-http",)),
}
#: What is secret of an entry of a docker configuration.
_DOCKER_SECRETS = ("auth", "password", "identitytoken", "registrytoken")
#: Keys whose values are no secrets.
_PUBLIC = frozenset(
    {"region", "endpoint", "account-name", "username", "plain-http", "tenant-id", "client-id", "authority", "scope"}
)


@dataclass(frozen=True)
class Credentials:
    """What a Secret holds for one URI; empty without a Secret.

    Attributes:
        secret: name of the Secret, or an empty string.
        values: key to value.
    """

    secret: str = ""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def get(self, key: str) -> str | None:
        """A key's value, or None."""
        return self.values.get(key)

    def hide(self, text: str) -> str:
        """A text of a library without the secret values that it may quote."""
        return hide(text, secret_parts(self.values))


def secret_parts(values: Mapping[str, str]) -> list[str]:
    """Every string that must not be shown, longest first: the values, and the parts of those with a structure."""
    found: set[str] = set()
    for key, value in values.items():
        if key in _PUBLIC:
            continue
        found.add(value)
        found.update(_parts(key, value))
    found |= {quote(value, safe="") for value in found}
    return sorted((value for value in found if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)


def _parts(key: str, value: str) -> Iterable[str]:
    if key == "sas-token":
        return [pair.partition("=")[2] for pair in value.lstrip("?").split("&") if pair.startswith("sig=")]
    if not key.endswith("json"):
        return []
    try:
        content = json.loads(value)
    except ValueError:
        return []
    if key == ".dockerconfigjson":
        auths = content.get("auths") if isinstance(content, dict) else None
        entries = [entry for entry in auths.values() if isinstance(entry, dict)] if isinstance(auths, dict) else []
        return [str(entry[name]) for entry in entries for name in _DOCKER_SECRETS if entry.get(name)]
    return [str(content[name]) for name in ("private_key", "private_key_id") if content.get(name)]


def hide(text: str, secrets: Iterable[str]) -> str:
    """A text with every secret replaced."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def read_credentials(
    config: JobConfig, field_name: str, scheme: Scheme, reference: SecretReference | None, *, writes: bool = False
) -> Credentials:
    """The credentials beside a URI.

    Args:
        config: the job, which says where its Secrets are mounted.
        field_name: the spec's field that holds the reference, for messages.
        scheme: of the URI.
        reference: the Secret, or None.
        writes: whether they are to open a place to write to, which is never public.

    Raises:
        InputNotFoundError: the Secret is not mounted, or lacks a key that the scheme needs; the message names the key.
    """
    if reference is None:
        return Credentials()
    folder = Path(config.secrets.get(reference.name, ""))
    keys = KEYS.get(scheme)
    if reference.name not in config.secrets or keys is None:
        why = "is not mounted" if keys is not None else f"is not used by {scheme}://; leave it out"
        raise InputNotFoundError(f"{field_name}.secretRef: secret {reference.name!r} {why}")
    known = {key for alternative in keys.needed for key in alternative} | set(keys.optional)
    values = {key: (folder / key).read_text(encoding="utf-8").strip() for key in known if (folder / key).is_file()}
    if not keys.have_enough(values, writes=writes):
        raise InputNotFoundError(
            f"{field_name}.secretRef: secret {reference.name!r} {_lack(keys, values)};"
            f" {scheme}:// reads the keys {describe(keys)}"
        )
    return Credentials(reference.name, values)


def _lack(keys: Keys, values: Mapping[str, str]) -> str:
    """The missing keys of the alternative that most is there of."""
    begun = max(keys.needed, key=lambda alternative: sum(key in values for key in alternative))
    fewest = [key for key in begun if not values.get(key)]
    return f"has no key {' and no key '.join(repr(key) for key in fewest)}"


def describe(keys: Keys) -> str:
    """The keys of a scheme in words."""
    needed = " or ".join(" and ".join(alternative) for alternative in keys.needed)
    public = f", or only {' and '.join(keys.public)} to read what is public" if keys.public else ""
    optional = f" (optional: {', '.join(keys.optional)})" if keys.optional else ""
    return f"{needed}{public}{optional}"


class Redaction:
    """Takes the job's secrets out of every line that leaves the process; they are known once the job is read."""

    def __init__(self) -> None:
        self._secrets: list[str] = []

    def learn(self, config: JobConfig) -> None:
        """Remember the secrets that are mounted for a job."""
        self._secrets = mounted_secrets(config)

    def hide(self, text: str) -> str:
        """A text without them."""
        return hide(text, self._secrets)


def mounted_secrets(config: JobConfig) -> list[str]:
    """Every string of the job's mounted Secrets that must not be shown."""
    values = {
        f"{folder}/{file.name}": (file.name, file.read_text(encoding="utf-8", errors="replace").strip())
        for folder in config.secrets.values()
        for file in (Path(folder).iterdir() if Path(folder).is_dir() else ())
        if file.is_file()
    }
    found = {part for name, value in values.values() for part in secret_parts({name: value})}
    return sorted(found, key=len, reverse=True)
