"""What a device tells the server beside its messages: hello, marks, typing, looks, watches, tokens.

All that is wanted within a turn shares one frame.
"""

from __future__ import annotations

from chinwag.chat.v1 import channel_pb2, connect_pb2, entry_pb2
from chinwag.events import Cursor
from chinwag.marks import Marks
from chinwag.presence.v1 import presence_pb2

VERSION = 1
CLIENT = "chinwag-python/0.1.0"
MAX_CURSORS = 20_000
MAX_TYPING = 16
TYPING_REPEAT_S = 4.0


class Control:
    """The next control frame, and what every hello has to say again.

    Args:
        subscriptions: What the stream carries beside events and results.
        catch_up_limit: See `Hello.catch_up_limit`.

    Attributes:
        is_open: The server has welcomed this stream: from then on things are sent as they come;
            before, hello says what has to be said.
    """

    def __init__(
        self, subscriptions: connect_pb2.Subscriptions | None, catch_up_limit: int
    ) -> None:
        self.is_open = False
        self.marks = Marks()
        self._subscriptions = (
            connect_pb2.Subscriptions(receipts=True, typing=True, account=True)
            if subscriptions is None
            else subscriptions
        )
        self._catch_up_limit = catch_up_limit
        self._looking: dict[str, None] = {}
        self._watches: connect_pb2.PresenceWatches | None = None
        self._typed: dict[tuple[str, int], float] = {}
        self._frame = connect_pb2.ConnectRequest()

    def say_hello(self, stamp: str, account_cursor: str, cursors: list[Cursor]) -> None:
        """A stream is open: what its first frame says."""
        self.is_open = False
        self._frame = connect_pb2.ConnectRequest()
        hello = self._frame.hello
        hello.protocol_version = VERSION
        hello.client = CLIENT
        hello.resume_stamp = stamp
        hello.catch_up_limit = self._catch_up_limit
        wanted = hello.subscriptions
        wanted.CopyFrom(self._subscriptions)
        wanted.account_cursor = account_cursor
        if self._watches is not None:
            wanted.watches.CopyFrom(self._watches)
        for cursor in cursors[-MAX_CURSORS:]:
            to = wanted.channels if cursor.channel_id in self._looking else hello.cursors
            to.append(_cursor(cursor))

    def welcomed(self, now: float) -> None:
        """The server has taken hello. Marks have no answer: those of the last stream may not have
        arrived, and go again."""
        self.is_open = True
        self.marks.again(now)

    def take(self, now: float) -> connect_pb2.ConnectRequest | None:
        """The frame to send now, if there is anything to say."""
        if self.is_open:
            self._frame.marks.extend(self.marks.take(now))
        if not self._frame.ByteSize():
            return None
        frame, self._frame = self._frame, connect_pb2.ConnectRequest()
        return frame

    def ping(self, now: float) -> None:
        """Asks for a sign of life."""
        self._frame.ping.id = int(now * 1000)

    def renew_token(self, access_token: str) -> None:
        """Gives the stream a fresh token; a stream that is not open was opened with one."""
        if self.is_open:
            self._frame.renew_token.access_token = access_token

    def typing(self, channel_id: str, thread_root_id: int, active: bool, now: float) -> None:
        """The user types, or has stopped."""
        if not self.is_open:
            return
        key = (channel_id, thread_root_id)
        if active and now - self._typed.get(key, -TYPING_REPEAT_S) < TYPING_REPEAT_S:
            return
        if len(self._typed) > 100:
            self._typed.clear()
        if active:
            self._typed[key] = now
        else:
            self._typed.pop(key, None)
        if len(self._frame.typing) < MAX_TYPING:
            self._frame.typing.add(
                channel_id=channel_id, thread_root_id=thread_root_id, active=active
            )

    def look(self, cursor: Cursor) -> None:
        """A broadcast channel is looked at, after a cursor."""
        self._looking[cursor.channel_id] = None
        if self.is_open:
            self._frame.subscribe.append(_cursor(cursor))

    def look_away(self, channel_id: str) -> bool:
        """It is not looked at any more; whether it was."""
        if channel_id not in self._looking:
            return False
        del self._looking[channel_id]
        if self.is_open:
            self._frame.unsubscribe.append(channel_id)
        return True

    def watch(self, watches: list[presence_pb2.Watch]) -> None:
        """The users whose presence is wanted, in place of those before."""
        self._watches = connect_pb2.PresenceWatches(watches=watches)
        if self.is_open:
            self._frame.watches.CopyFrom(self._watches)

    def told(self, event: entry_pb2.Event) -> None:
        """The server tells of registers, or that a channel is gone."""
        if event.HasField("state"):
            self.marks.confirmed(event.state)
        elif event.HasField("reset") and not event.reset.generation:
            self._looking.pop(event.reset.channel_id, None)
            self.marks.drop(event.reset.channel_id)


def _cursor(cursor: Cursor) -> channel_pb2.Cursor:
    return channel_pb2.Cursor(
        channel_id=cursor.channel_id, generation=cursor.generation, id=cursor.id
    )
