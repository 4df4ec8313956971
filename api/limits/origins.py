"""Which names this deployment answers to, and whose pages may change something here.

A browser sends requests wherever a page asks it to, and it may be able to reach what the page's author cannot: a
service on the loopback interface. Two headers that no page can change say what happened: `Host` is the page's own name
where it made that name point here (DNS rebinding), and `Origin` names the page in every request that is no mere look
(RFC 6454, section 7; Fetch, section 3.1).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from darkroom.errors import HostNotAllowed, MalformedRequest, OriginNotAllowed

# RFC 9110, section 7.2, without escapes.
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_LOOKS = ("GET", "HEAD", "OPTIONS")


class Origins:
    """Takes `localhost`, IP addresses (nobody can make one point elsewhere), the public URL's host, and `hosts`.

    Of `hosts`, `*.example.com` stands for all names below it, `*` for any name. A page may change something where it
    comes from the very host and port that it asks, from the public URL's, from one of `hosts`, whatever its port, or is
    one of `pages` (`*`: any).
    """

    def __init__(self, hosts: Iterable[str], public_url: str = "", pages: Collection[str] = ()) -> None:
        self._pages = pages
        self._hosts = [host.lower() for host in hosts if host]
        self._public = urlsplit(public_url)

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """Raises: MalformedRequest, HostNotAllowed, OriginNotAllowed."""
        host = headers.get("host", "localhost")  # HTTP/1.0 has none, and no browser speaks it
        match = _HOST.fullmatch(host)
        if match is None:
            raise MalformedRequest("Host is not the name of a host.")
        name = match["name"].lower().rstrip(".")
        if name != self._public.hostname and not self._listed(name) and not _is_fixed(name):
            raise HostNotAllowed("This deployment has another name; DARKROOM_ALLOWED_HOSTS lists those it goes by.")
        if method not in _LOOKS and "origin" in headers and not self._same(headers["origin"], host):
            raise OriginNotAllowed("Pages of that origin may change nothing here; see DARKROOM_ALLOWED_HOSTS.")

    def _listed(self, name: str) -> bool:
        return any(host in ("*", name) or (host.startswith("*.") and name.endswith(host[1:])) for host in self._hosts)

    def _same(self, origin: str, host: str) -> bool:
        if origin in self._pages or "*" in self._pages:
            return True
        try:
            page = urlsplit(origin)
            if page.netloc and page.netloc.lower() in (host.lower(), self._public.netloc.lower()):
                return True
            return bool(page.hostname) and "*" not in self._hosts and self._listed(page.hostname or "")
        except ValueError:
            return False


def _is_fixed(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
