"""A node's part in a store that other nodes use too: their changes come to be known here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets

from chinwag.common.v1 import close_pb2
from chinwag_server.account.apikeys import ApiKeys
from chinwag_server.account.audit import Audit, AuditSettings, Connected
from chinwag_server.account.ids import RandomBytes
from chinwag_server.account.news import AccountNews, Hooks
from chinwag_server.account.sessions import Sessions
from chinwag_server.account.shared_epochs import SharedEpochs
from chinwag_server.account.signing_keys import SigningKeys
from chinwag_server.account.users import Users
from chinwag_server.account.watch import Watchers
from chinwag_server.clock import Clock
from chinwag_server.mesh.bus import Bus
from chinwag_server.mesh.unavailable import Unavailable

log = logging.getLogger(__name__)


class Sharing:
    """News, if there is a bus, and audits in any case.

    Args:
        bus: To the other nodes, open; None: what they change is known by the audits alone.

    Attributes:
        epochs: Of everything that is remembered of users.
        keys_wanted: Set when the signing keys are to be read again.
    """

    def __init__(
        self,
        clock: Clock,
        bus: Bus | None,
        settings: AuditSettings | None = None,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self.settings = settings or AuditSettings()
        self.epochs = SharedEpochs(clock, hold_s=self.settings.hold_s)
        self.keys_wanted = asyncio.Event()
        self._clock = clock
        self._bus = bus
        self._random_bytes = random_bytes
        self._news: AccountNews | None = None

    async def join(
        self,
        users: Users,
        sessions: Sessions,
        api_keys: ApiKeys,
        keys: SigningKeys,
        watchers: Watchers,
    ) -> None:
        """Begins to tell of what is changed here, and to hear the others."""

        def end(
            user_id: str, device_id: str | None, reason: close_pb2.CloseReason.ValueType
        ) -> None:
            with self._quietly():
                for told in sessions.on_end:
                    told(user_id, device_id, reason)

        def revoke(api_key_id: str) -> None:
            with self._quietly():
                for told in api_keys.on_revoke:
                    told(api_key_id)

        self._audit = Audit(
            users.store,
            self.epochs,
            watchers,
            self._clock,
            end=end,
            revoke=revoke,
            settings=self.settings,
        )
        if self._bus is None:
            return
        hooks = Hooks(
            on_change=users.on_change,
            on_event=users.on_event,
            on_end=sessions.on_end,
            on_revoke=api_keys.on_revoke,
            on_keys=keys.on_change,
            heard_user=users.store.changed_elsewhere,
            heard_keys=self.keys_wanted.set,
        )
        self._news = AccountNews(
            self._bus,
            hooks,
            # No other store has this number, should two share a bus.
            topic=f"accounts/{users.store.generation:x}",
            node=self._random_bytes(8).hex(),
            on_gap=self.missed,
        )
        self._news.start()
        try:
            await self._bus.settle()
        except Unavailable as error:
            log.warning("other nodes' changes to accounts are not heard yet: %s", error)
        # What was changed before it was heard.
        self.missed()

    def missed(self) -> None:
        """News may have been missed: looks for what they were about."""
        self.keys_wanted.set()
        self._audit.soon()

    async def run(self, *connected: Connected) -> None:
        """Audits for ever.

        Args:
            connected: Each gives those who have a stream open here.
        """
        self._audit.connected += connected
        await self._audit.run()

    def stop(self) -> None:
        """Neither tells nor hears any more."""
        if self._news is not None:
            self._news.stop()

    def _quietly(self) -> contextlib.AbstractContextManager[None]:
        # The others find it out as this node did, or have heard of it.
        return contextlib.nullcontext() if self._news is None else self._news.quietly()
