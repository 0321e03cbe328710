"""The seam to the API server: which way requests take."""

import pytest

from tunesmith_operator.cluster import proxy_for


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://api.example.com:6443", "http://proxy:3128"),
        ("https://10.96.0.1:443", None),
        ("https://kubernetes.default.svc", None),
        ("http://api.example.com", None),
        ("", None),
    ],
)
def test_the_proxy_of_the_environment(url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY holds for https, unless NO_PROXY names the host or its domain."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("https_proxy", "http://proxy:3128"), ("no_proxy", "10.96.0.1,.svc")):
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy
