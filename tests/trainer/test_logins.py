"""The login of a tracker, which changes while a training runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import SECRET, Authority
from front import encrypted

import servers
from tunesmith_trainer.errors import ServiceUnavailableError
from tunesmith_trainer.logins import Login


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """A token service whose tokens live for an hour."""
    certificate = servers.certificate(tmp_path, "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with encrypted(Authority(3600), certificate) as found:
        yield found


def secret(folder: Path, **keys: str) -> Path:
    """A mounted Secret; its keys are written with dashes."""
    folder.mkdir(exist_ok=True)
    for key, value in keys.items():
        (folder / key.replace("_", "-")).write_text(f"{value}\n")
    return folder


def test_a_login_is_what_the_secret_has_now(tmp_path: Path) -> None:
    """Kubernetes replaces the files; both the old and the new value are kept out of messages."""
    login = Login(secret(tmp_path / "login", token="first-token"))
    assert login.current() == {"token": "first-token"}
    secret(tmp_path / "login", token="second-token")
    assert login.current() == {"token": "second-token"}
    assert login.hide("first-token, second-token") == "[hidden], [hidden]"
    assert Login().current() == {}


def test_half_of_a_login_is_none(tmp_path: Path) -> None:
    """A user without a password does not keep the token away, which stands first in the table of alternatives."""
    login = Login(secret(tmp_path / "login", username="me"))
    assert login.current() == {}
    secret(tmp_path / "login", token="a-token")
    assert login.current() == {"token": "a-token"}


@pytest.mark.parametrize(
    ("keys", "complete"),
    [
        ({"token": "t"}, True),
        ({"username": "me", "password": "p"}, True),
        ({"tenant_id": "t", "client_id": "c", "client_secret": "s"}, True),
        ({"username": "me"}, False),
        ({"tenant_id": "t", "client_id": "c"}, False),
        ({"tenant_id": "t", "client_id": "c", "client_secret": ""}, False),
        ({}, False),
    ],
)
def test_a_login_has_the_keys_of_one_alternative(tmp_path: Path, keys: dict[str, str], complete: bool) -> None:  # noqa: FBT001
    """Whole, and none of them empty."""
    assert Login(secret(tmp_path / "login", **keys)).is_complete() == complete


def test_a_token_is_renewed_before_it_runs_out(authority: Authority, tmp_path: Path) -> None:
    """One token for 55 minutes of its hour; then, or when the Secret changes, the next."""
    now = [0.0]
    folder = secret(tmp_path / "login", **authority.keys())
    login = Login(folder, lambda: now[0])
    found = []
    for now[0] in (0.0, 3299.0, 3301.0, 6600.0, 6602.0):
        found.append(login.current()["token"])
    assert found == ["token-1", "token-1", "token-2", "token-2", "token-3"]
    secret(folder, scope="api://mlflow/.default")
    assert login.current() == {"token": "token-4"}
    assert authority.scopes == ["https://management.azure.com/.default"] * 3 + ["api://mlflow/.default"]
    assert login.hide("token-3 token-4") == "[hidden] [hidden]"


def test_an_authority_that_refuses_is_quoted_without_the_secret(authority: Authority, tmp_path: Path) -> None:
    """The message has its words, and what it repeats of the secret is hidden."""
    login = Login(secret(tmp_path / "login", **authority.keys() | {"client-secret": f"old-{SECRET}"}))
    with pytest.raises(ServiceUnavailableError, match=r"the-tenant/oauth2/v2.0/token gives no token: 401") as caught:
        login.current()
    assert "invalid_client" in str(caught.value)
    assert SECRET not in login.hide(str(caught.value))
