"""Passwords: hashed and compared in a few threads, guesses of them slowed down."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from chinwag_server.clock import Clock
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.ratelimit import AddressSet

Result = TypeVar("Result")

QUEUE_RETRY_S = 2.0


@dataclass(slots=True, frozen=True)
class HashSettings:
    """argon2id (RFC 9106) and how much of it runs at one time."""

    memory_kib: int
    passes: int
    lanes: int
    concurrency: int
    queue: int


class Passwords:
    """Hashes and compares passwords outside of the event loop."""

    def __init__(self, settings: HashSettings) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.passes,
            memory_cost=settings.memory_kib,
            parallelism=settings.lanes,
            type=Type.ID,
        )
        self._threads = ThreadPoolExecutor(settings.concurrency, "argon2")
        self._max_waiting = settings.concurrency + settings.queue
        self._waiting = 0
        # What an unknown name's password is compared with, so that it takes as long.
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """A new password's hash, with its salt and parameters.

        Raises:
            Refusal: OVERLOADED.
        """
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, stored: str, password: str) -> bool:
        """Whether a password is the stored one; False, after as long, if "" is stored.

        Raises:
            Refusal: OVERLOADED.
        """
        return await self._run(lambda: self._compare(stored or self._nobody, password)) and bool(
            stored
        )

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than new ones are."""
        try:
            return self._hasher.check_needs_rehash(stored)
        except InvalidHashError:
            return False

    def _compare(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= self._max_waiting:
            raise Refusal(
                "OVERLOADED", "too many logins at this moment: try again", retry_after=QUEUE_RETRY_S
            )
        self._waiting += 1
        done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # Counted until the thread is done, also if the call is given up before.
        done.add_done_callback(self._done)
        return await done

    def _done(self, future: asyncio.Future[Result]) -> None:
        self._waiting -= 1

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(cancel_futures=True)


class Attempt:
    """A try with a password; `succeed` takes it back from what is counted."""

    def __init__(self, forgive: Callable[[], None]) -> None:
        self.succeed = forgive


class Throttle:
    """Counts failed tries for each account and each address within a window.

    A try counts as failed from its beginning until it has succeeded: many at once guess no more
    than many in turn.

    Args:
        failures: How many may fail within `window_s`.
        max_keys: Accounts, and addresses, that are remembered; the oldest go first.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        failures: int,
        window_s: float,
        exempt: tuple[str, ...] = (),
        max_keys: int = 100_000,
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._window_s = window_s
        self._exempt = AddressSet(exempt)
        self._max_keys = max_keys
        self._tries: dict[str, OrderedDict[str, deque[float]]] = {
            "account": OrderedDict(),
            "address": OrderedDict(),
        }

    @contextlib.contextmanager
    def attempt(self, account: str, address: str) -> Iterator[Attempt]:
        """A try; what the hashing refuses (OVERLOADED) does not count.

        Raises:
            Refusal: LOGIN_THROTTLED.
        """
        now = self._clock.monotonic()
        counted = [self._of("account", account, now)]
        if address and address not in self._exempt:
            counted.append(self._of("address", address, now))
        wait_s = max(
            (tries[-self._failures] + self._window_s - now) if len(tries) >= self._failures else 0.0
            for tries in counted
        )
        if wait_s > 0:
            raise Refusal(
                "LOGIN_THROTTLED",
                "too many wrong passwords: wait before the next try",
                retry_after=max(wait_s, 0.001),
            )
        for tries in counted:
            tries.append(now)

        def take_back() -> None:
            for tries in counted:
                with contextlib.suppress(ValueError):
                    tries.remove(now)

        def succeed() -> None:
            take_back()
            counted[0].clear()  # whoever knows the password is not guessing it

        try:
            yield Attempt(succeed)
        except Refusal as refusal:
            if refusal.reason != "CREDENTIALS_INVALID":
                take_back()
            raise

    def _of(self, kind: str, key: str, now: float) -> deque[float]:
        known = self._tries[kind]
        tries = known.setdefault(key, deque())
        known.move_to_end(key)
        if len(known) > self._max_keys:
            known.popitem(last=False)
        while tries and tries[0] + self._window_s <= now:
            tries.popleft()
        return tries
