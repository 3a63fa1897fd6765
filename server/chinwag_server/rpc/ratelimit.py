"""Rate limits: token buckets by user and by address, as many as there is room for.

A bucket holds `burst` tokens and gains `rate` a second; what is taken over that has to wait
(https://en.wikipedia.org/wiki/Token_bucket).
"""

from __future__ import annotations

import functools
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller


@dataclass(slots=True, frozen=True)
class Rate:
    """How much may come.

    Attributes:
        per_second: In the long run; 0: no limit.
        burst: At once, after a pause.
    """

    per_second: float
    burst: float


class TokenBuckets:
    """One bucket a key. The least used ones are forgotten when there are too many: whoever comes
    back starts with a full one.

    Args:
        max_keys: Buckets kept, about 200 bytes each.

    Attributes:
        rate: Tokens a second; 0: no limit.
        burst: Tokens of a full bucket, at least 1.
        on_much: Called with the key and the count of what is taken of a bucket that has less than
            half left then.
    """

    def __init__(self, rate: Rate, clock: Clock, *, max_keys: int = 100_000) -> None:
        self.rate = rate.per_second
        self.burst = max(rate.burst, 1.0)
        self.on_much: Callable[[str, float], None] | None = None
        self._clock = clock
        self._max_keys = max_keys
        # Key -> (tokens, when they were counted); the least used first.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, key: str, count: float = 1) -> float:
        """Seconds until `count` can be taken; 0: now. Takes nothing.

        More than a burst at once can only be taken from a full bucket, and leaves it in debt.
        """
        if not self.rate:
            return 0.0
        missing = min(count, self.burst) - self._tokens(key)
        return missing / self.rate if missing > 0 else 0.0

    def take(self, key: str, count: float = 1) -> None:
        """Takes `count`, after `wait` said 0."""
        if not self.rate:
            return
        tokens = self._tokens(key) - count
        self._set(key, tokens)
        if self.on_much is not None and tokens * 2 < self.burst:
            self.on_much(key, count)

    def hold(self, key: str, wait_s: float) -> None:
        """Gives nothing for so long."""
        self._set(key, min(self._tokens(key), 1.0 - wait_s * self.rate))

    def _set(self, key: str, tokens: float) -> None:
        self._buckets[key] = (tokens, self._clock.monotonic())
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)

    def _tokens(self, key: str) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            return self.burst
        tokens, counted = bucket
        return min(self.burst, tokens + (self._clock.monotonic() - counted) * self.rate)


class Limiter:
    """One kind of thing (calls, frames, sends) limited by user and by address.

    An API key that calls for itself is limited like a user; its address is not limited, since a
    backend speaks for many users from one address.

    Args:
        exempt: Networks whose addresses are not limited, such as "127.0.0.0/8".

    Attributes:
        users, addresses: Their buckets.
    """

    def __init__(
        self,
        user: Rate,
        address: Rate,
        clock: Clock,
        *,
        exempt: Iterable[str] = (),
        max_keys: int = 100_000,
    ) -> None:
        self.users = TokenBuckets(user, clock, max_keys=max_keys)
        self.addresses = TokenBuckets(address, clock, max_keys=max_keys)
        self._exempt = AddressSet(exempt)

    def take(self, caller: Caller, count: int = 1) -> float:
        """Seconds to wait until so many more may come; 0: they are taken. Either both buckets
        give or none does."""
        user = caller.user_id or caller.api_key_id
        exempt = caller.api_key_id or caller.address in self._exempt
        address = "" if exempt else address_key(caller.address)
        wait = self.users.wait(user, count) if user else 0.0
        if address:
            wait = max(wait, self.addresses.wait(address, count))
        if wait:
            return wait
        if user:
            self.users.take(user, count)
        if address:
            self.addresses.take(address, count)
        return 0.0


@functools.lru_cache(10_000)
def address_key(address: str) -> str:
    """What shares a bucket: an IPv4 address, or the /64 network of an IPv6 one, all of which one
    subscriber has."""
    try:
        ip = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))


class AddressSet:
    """Addresses and networks, with a bounded memory of what was asked.

    Raises:
        ValueError: One is no address and no network.
    """

    MAX_REMEMBERED = 10_000

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(text, strict=False) for text in networks)
        self._remembered: dict[str, bool] = {}

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        found = self._remembered.get(address)
        if found is None:
            found = self._look(address)
            if len(self._remembered) >= self.MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[address] = found
        return found

    def _look(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:  # a Unix socket, or what a header says
            return False
        mapped = getattr(ip, "ipv4_mapped", None)
        return any((mapped or ip) in network for network in self._networks)


class StreamRates:
    """Frames and sends of device streams: the chat room's `RateLimits`."""

    def __init__(self, frames: Limiter, sends: Limiter) -> None:
        self.frames = frames
        self.sends = sends

    def take_frame(self, caller: Caller) -> float:
        return self.frames.take(caller)

    def take_sends(self, caller: Caller, count: int) -> float:
        return self.sends.take(caller, count)
