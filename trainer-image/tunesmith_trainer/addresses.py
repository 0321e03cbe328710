"""Which addresses an https:// URI may reach: public ones only, whatever way the address is written."""

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from tunesmith_trainer.errors import BadConfigError, ServiceUnavailableError

#: Environment variable: `host:port,...` that are reachable although private (a mirror inside the cluster, tests).
ALLOWED_HOSTS_VARIABLE = "TUNESMITH_ALLOWED_HOSTS"
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


def embedded_address(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one (mapped, 6to4, Teredo, NAT64), which is where packets end up; else itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour or address
    if address.teredo:
        return address.teredo[1]
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


def is_public(address: Address) -> bool:
    """Whether an address is a public unicast one: not private, loopback, link-local, multicast or reserved."""
    inner = embedded_address(address)
    return inner.is_global and not inner.is_multicast and not inner.is_reserved


def parse_allowed_hosts(text: str) -> frozenset[tuple[str, int]]:
    """The hosts and ports of the environment variable; entries without a port mean 443."""
    entries = [entry.strip().rpartition(":") for entry in text.split(",") if entry.strip()]
    return frozenset((host or port, int(port) if host else 443) for host, _, port in entries)


def resolve_public(host: str, port: int, allowed: frozenset[tuple[str, int]]) -> str:
    """The address to connect to. The caller connects to exactly this one, so a second DNS answer cannot change it.

    Raises:
        BadConfigError: any of the host's addresses is not public, and the host is not allowed by name.
        ServiceUnavailableError: the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServiceUnavailableError(f"host {host!r} does not resolve: {error}") from error
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if (host, port) in allowed:
        return addresses[0]
    for address in addresses:
        if not is_public(ip_address(address)):
            raise BadConfigError(
                f"https://{host}:{port} is at {address}, which is not a public address;"
                f" use a pvc:// or configmap:// URI, or have the host listed in {ALLOWED_HOSTS_VARIABLE}"
                " (in a cluster by the chart's trainer.env)"
            )
    return addresses[0]
