"""A login: its tokens, kept fresh, and kept in a file for the owner's eyes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from grpc import aio

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc, user_pb2
from chinwag.addresses import Addresses, parse_addresses
from chinwag.calls import Calls
from chinwag.errors import Unauthenticated
from chinwag.routes import open_routes
from chinwag.transport import Security, Tls

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CLIENT = "chinwag-python/0.1.0"
# An access token is refreshed this long before its end, or at 4/5 of its life if that is later.
REFRESH_BEFORE_S = 60.0
# By a clock that is wrong every token looks ended: after a refresh one is used for so long anyway.
TRUST_S = 30.0

TokenSource = Callable[[], Awaitable[user_pb2.Tokens]]


@dataclass(slots=True)
class Session:
    """One login of one program: a device of its own. Do not use one in two programs at once.

    Attributes:
        address: Where it was opened: "host:port", or several with commas.
        access_expire_time_s, refresh_expire_time_s: Seconds since 1970; 0: not known.
        path: The file that new tokens are written to; None: none.
        source: Gives new tokens where there is no refresh token, such as a call to the team's
            backend, which uses `Backend.issue_user_token`.
    """

    user_id: str
    device_id: str
    access_token: str = field(repr=False)
    access_expire_time_s: float = 0.0
    refresh_token: str = field(default="", repr=False)
    refresh_expire_time_s: float = 0.0
    username: str = ""
    address: str = ""
    path: Path | None = field(default=None, compare=False)
    source: TokenSource | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, tokens: user_pb2.Tokens, *, username: str = "", address: str = "") -> Session:
        """A session of tokens that the server gave."""
        session = cls(tokens.user_id, tokens.device_id, "", username=username, address=address)
        session.take(tokens)
        return session

    def take(self, tokens: user_pb2.Tokens) -> None:
        """Takes new tokens, and writes them to the file if there is one."""
        self.access_token = tokens.access_token
        self.access_expire_time_s = tokens.access_expire_time.ToNanoseconds() / 1e9
        if tokens.refresh_token:
            self.refresh_token = tokens.refresh_token
            self.refresh_expire_time_s = tokens.refresh_expire_time.ToNanoseconds() / 1e9
        if self.path is not None:
            self.save(self.path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the session to a file of mode 0600, whole or not at all, and from now on every
        new token too."""
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes files of mode 0600.
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({name: getattr(self, name) for name in _SAVED}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Session:
        """Reads a session from a file; new tokens will be written there.

        Raises:
            FileNotFoundError: There is none.
            ValueError: The file holds no session.
        """
        file = Path(path)
        try:
            values = json.loads(file.read_text())
            session = cls(**{name: values[name] for name in _SAVED if name in values})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} holds no chinwag session: log in again") from error
        session.path = file
        return session


_SAVED = tuple(f.name for f in dataclasses.fields(Session) if f.name not in ("path", "source"))


class SessionCredential:
    """The `Credential` of a session: refreshes its tokens before they end, one refresh at a time.

    Args:
        session: Is changed by refreshes.
        channel: Where to refresh.
        time_s: Seconds since 1970.
    """

    def __init__(
        self,
        session: Session,
        channel: aio.Channel,
        *,
        time_s: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = session
        self._stub = account_service_pb2_grpc.AccountServiceStub(channel)
        self._calls = Calls(None)
        self._time_s = time_s
        self._monotonic = monotonic
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at: float | None = None
        self._life_s = 0.0

    async def token(self) -> str:
        if self._is_ending():
            await self._refresh()
        return self.session.access_token

    async def rejected(self, token: str) -> None:
        # If another call has refreshed it meanwhile, the next attempt has a new one already.
        if token == self.session.access_token:
            await self._refresh()

    async def renewed(self) -> str:
        """A fresh token, for a stream whose token is about to end."""
        await self._refresh()
        return self.session.access_token

    def _is_ending(self) -> bool:
        session = self.session
        if not session.access_expire_time_s:
            return False
        if self._refreshed_at is not None and self._monotonic() - self._refreshed_at < TRUST_S:
            return False
        margin = min(REFRESH_BEFORE_S, self._life_s / 5) if self._life_s else REFRESH_BEFORE_S
        return session.access_expire_time_s - self._time_s() < margin

    async def _refresh(self) -> None:
        """Refreshes, or waits for the refresh that is under way. It goes on if the waiting call is
        cancelled: a refresh token must not be used up and its answer thrown away."""
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._do_refresh())
            self._refreshing.add_done_callback(self._refresh_done)
        await asyncio.shield(self._refreshing)

    def _refresh_done(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may wait any more

    async def _do_refresh(self) -> None:
        session = self.session
        if session.source is not None:
            self._take(await session.source())
            return
        if not session.refresh_token:
            raise Unauthenticated(
                "the access token has ended and there is no refresh token: log in again",
                reason="TOKEN_EXPIRED",
            )
        if session.path is None:
            await self._ask()
            return
        lock = await asyncio.to_thread(_lock, session.path)
        try:
            await self._ask_shared(session.path)
        finally:
            lock.close()

    async def _ask_shared(self, path: Path) -> None:
        # Two programs that were given the same file (they should not be): the second one takes
        # the first one's new tokens, since using the old refresh token again would look like theft.
        try:
            stored = Session.load(path)
        except (FileNotFoundError, ValueError):
            stored = self.session
        if (
            stored.device_id == self.session.device_id
            and stored.refresh_token != self.session.refresh_token
            and stored.refresh_expire_time_s >= self.session.refresh_expire_time_s
        ):
            for name in _SAVED:
                setattr(self.session, name, getattr(stored, name))
            if stored.access_expire_time_s - self._time_s() > REFRESH_BEFORE_S:
                self._refreshed_at = self._monotonic()
                return
        await self._ask()

    async def _ask(self) -> None:
        session = self.session
        request = pb.RefreshTokenRequest(
            refresh_token=session.refresh_token, device_id=session.device_id
        )
        answer = await self._calls(self._stub.RefreshToken, request)
        self._take(answer.tokens)

    def _take(self, tokens: user_pb2.Tokens) -> None:
        self._refreshed_at = self._monotonic()
        self.session.take(tokens)
        self._life_s = max(self.session.access_expire_time_s - self._time_s(), 1.0)


def _lock(path: Path) -> IO[bytes]:
    """Waits for the lock beside a session file, where the system has such locks; closing the file
    that it gives frees it."""
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    file = os.fdopen(descriptor, "wb")
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


# --- getting one ---


def device_info(
    name: str, platform: user_pb2.Platform.ValueType = user_pb2.PLATFORM_UNSPECIFIED
) -> user_pb2.DeviceInfo:
    """What this program says about its device."""
    return user_pb2.DeviceInfo(name=name, platform=platform, client=CLIENT)


async def _anonymous(
    addresses: Addresses,
    security: Security,
    channel: aio.Channel | None,
    method: str,
    request: Any,
) -> Any:
    opened = open_routes(addresses, security) if channel is None else channel
    try:
        stub = account_service_pb2_grpc.AccountServiceStub(opened)
        return await Calls(None)(getattr(stub, method), request)
    finally:
        if channel is None:
            await opened.close()


def _kept(addresses: Addresses) -> str:
    return ",".join(parse_addresses(addresses)) if addresses else ""


async def sign_up(
    address: Addresses,
    username: str,
    password: str,
    *,
    device_name: str = "",
    display_name: str = "",
    platform: user_pb2.Platform.ValueType = user_pb2.PLATFORM_UNSPECIFIED,
    tls: Tls = None,
    insecure: bool = False,
    channel: aio.Channel | None = None,
) -> Session:
    """Makes an account and logs this program in.

    Args:
        address: "host:port", or several: see `connect`. The session keeps them.
        username: 3 to 32 of a-z, 0-9, "_", "." and "-".
        password: 8 to 256 characters.
        device_name: For the user to know this login by.
        display_name: Empty: the username.
        tls, insecure: See `connect`.
        channel: A channel to use instead of opening one.

    Raises:
        AlreadyExists: USERNAME_TAKEN.
        InvalidArgument: `fields` says what is wrong.
        ChinwagError: Another reason.
    """
    request = pb.SignUpRequest(
        username=username,
        password=password,
        display_name=display_name,
        device=device_info(device_name, platform),
    )
    answer = await _anonymous(address, Security(tls, insecure), channel, "SignUp", request)
    return Session.of(answer.tokens, username=username, address=_kept(address))


async def log_in(
    address: Addresses,
    username: str,
    password: str,
    *,
    device_name: str = "",
    platform: user_pb2.Platform.ValueType = user_pb2.PLATFORM_UNSPECIFIED,
    tls: Tls = None,
    insecure: bool = False,
    channel: aio.Channel | None = None,
) -> Session:
    """Opens a session for this program: a new device.

    Raises:
        Unauthenticated: CREDENTIALS_INVALID: wrong name or password.
        LimitExceeded: LOGIN_THROTTLED; `retry_after` says for how long.
        ChinwagError: Another reason.
    """
    request = pb.LogInRequest(
        username=username, password=password, device=device_info(device_name, platform)
    )
    answer = await _anonymous(address, Security(tls, insecure), channel, "LogIn", request)
    return Session.of(answer.tokens, username=username, address=_kept(address))
