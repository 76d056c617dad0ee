"""Who may call: addresses and AE titles against what the settings allow.

Nothing a peer is or says makes it raise: who cannot be told is not let in.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address

from mirv.config.settings.fields import Network
from mirv.config.settings.network import Listener


def is_loopback(bind: str) -> bool:
    """True when only this machine can reach the address.

    Parameters
    ----------
    bind : str
        IP address, or ``localhost``.

    Returns
    -------
    bool
    """
    if bind == "localhost":
        return True
    address = _address(bind)
    return address is not None and address.is_loopback


class Admission:
    """The rules of a listener.

    Parameters
    ----------
    settings : config.settings.Listener
        Its rules; without one every peer of a loopback bind may call, and nobody else.
    """

    def __init__(self, settings: Listener) -> None:
        self._rules = settings.allow
        self._open = not settings.allow and is_loopback(settings.bind)

    def may_connect(self, address: str) -> bool:
        """Whether a peer at this IP address may connect at all, whatever its title."""
        return self._open or any(_is_in(address, rule.address) for rule in self._rules)

    def may_associate(self, calling_ae_title: str, address: str) -> bool:
        """Whether a peer of this title may associate from this IP address.

        Parameters
        ----------
        calling_ae_title : str
        address : str
            IP address.

        Returns
        -------
        bool
        """
        return self._open or any(
            rule.ae_title == calling_ae_title and _is_in(address, rule.address)
            for rule in self._rules
        )


def _is_in(address: str, network: Network | None) -> bool:
    if network is None:
        return True
    found = _address(address)
    return found is not None and found in network


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address; one of IPv4 that came in by IPv6 as what it is."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
