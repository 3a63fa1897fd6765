"""The full-screen terminal client."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from rich.markup import escape
from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Key, Resize
from textual.message import Message
from textual.widgets import Footer, Input, Label, ListItem, ListView, Static

import chinwag
from chinwag import events as ev
from chinwag_server.cli.chat.commands import HELP, CommandFailed, run_command
from chinwag_server.cli.chat.model import Line, Model, Room

TYPING_EVERY_S = 4.0
TICK_S = 1.0
PAGE = 50
SHOWN = 300

_DOTS = {
    ev.Connection.LIVE: ("green", "connected"),
    ev.Connection.CATCHING_UP: ("yellow", "catching up"),
    ev.Connection.CONNECTING: ("yellow", "connecting"),
    ev.Connection.WAITING: ("red", "offline, will reconnect"),
    ev.Connection.CLOSED: ("red", "closed"),
}


class RoomItem(ListItem):
    """A channel in the list."""

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id
        self.label = Label("", markup=False)
        super().__init__(self.label)


class Composer(Input):
    """The line to write in. It is emptied in the same step that takes its text: keys that follow
    at once (a paste, a fast writer) begin the next message."""

    class Said(Message):
        """A line was written."""

        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    async def _on_key(self, event: Key) -> None:
        # As a binding, enter would be handled after the keys that follow it.
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            text, self.value = self.value, ""
            self.post_message(self.Said(text))
        else:
            await super()._on_key(event)


class ChatApp(App[None]):
    """Channels on the left, messages on the right, a line to write below.

    Args:
        client: Not yet entered; the app runs it.
    """

    TITLE = "chinwag"
    ENABLE_COMMAND_PALETTE = False  # its key is "previous channel" here
    CSS = """
    #channels { width: 24; border-right: solid $primary-background; }
    #list { height: 1fr; }
    #status { height: 1; padding: 0 1; background: $panel; }
    #title { height: 1; padding: 0 1; text-style: bold; background: $panel; }
    #log { height: 1fr; padding: 0 1; }
    #typing { height: 1; padding: 0 1; color: $text-muted; }
    RoomItem { height: 1; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("ctrl+q", "quit", "Quit"),
        ("ctrl+n", "next(1)", "Next"),
        ("ctrl+p", "next(-1)", "Previous"),
        ("pageup", "older", "Older"),
        ("pagedown", "newer", "Newer"),
        ("f1", "help", "Help"),
    ]

    def __init__(self, client: chinwag.Client, user_id: str, username: str) -> None:
        super().__init__()
        self.client = client
        self.model = Model(user_id)
        self.model.names[user_id] = username
        self.username = username
        self.room_id = ""
        self._typed_at = 0.0
        self._order: list[str] = []
        self._notice = ""

    @property
    def room(self) -> Room | None:
        """The channel that is shown."""
        return self.model.rooms.get(self.room_id)

    def compose(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="channels"):
                yield Static("", id="status")
                yield ListView(id="list")
            with Vertical():
                yield Static("", id="title", markup=False)
                with VerticalScroll(id="log"):
                    yield Static("", id="messages")
                yield Static("", id="typing", markup=False)
                yield Composer(placeholder="Write a message, or /help", id="input")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#log").can_focus = False
        self.query_one("#input").focus()
        self.set_interval(TICK_S, self._tick)
        self._show_status()
        self._show_log()
        self.follow()

    # --- the client ---

    @work
    async def follow(self) -> None:
        """Runs the client and takes its events, to the end."""
        try:
            async with self.client as client:
                self.load_channels()
                async for event in client.events():
                    self._take(event)
        except chinwag.ChinwagError as error:
            self.model.connection, self.model.problem = ev.Connection.CLOSED, str(error)
        self._show_status()

    @work(exclusive=True, group="channels")
    async def load_channels(self) -> None:
        """Reads the list of channels."""
        while True:
            try:
                async for view in self.client.channels():
                    self.model.take_view(view)
                break
            except chinwag.ChinwagError as error:
                if not error.is_temporary:
                    self.notify(str(error), severity="error")
                    return
                await asyncio.sleep(1)
        self._show_list()
        if not self.room_id and (rooms := self.model.ordered()):
            self.open_room(rooms[0].id)
        self.load_names()

    @work(exclusive=True, group="names")
    async def load_names(self) -> None:
        """Reads the names of people who are shown."""
        while unknown := sorted(self.model.unknown_users())[:100]:
            try:
                users = await self.client.account.users(unknown)
            except chinwag.ChinwagError:
                return  # ids are shown until the next try
            found = {user.id: user.display_name or user.username for user in users}
            for user_id in unknown:
                self.model.names[user_id] = found.get(user_id) or user_id[:12]
        self._show_list()
        self._show_log(scroll=False)

    @work(exclusive=True, group="history")
    async def load_history(self, room: Room) -> None:
        """Reads a page of older messages."""
        before = next((line.id for line in room.lines if line.id), 0)
        try:
            history = self.client.channel(room.id).history(before=before or None, limit=PAGE)
            page = [message async for message in history]
        except chinwag.ChinwagError as error:
            self.notify(str(error), severity="error")
            return
        room.loaded = True
        room.has_older = len(page) == PAGE
        self.model.take_history(room, page)
        self.load_names()
        if room.id == self.room_id:
            self._show_log(scroll=not before)

    def _take(self, event: ev.Event) -> None:
        if isinstance(event, ev.TypingChanged):
            if self.model.apply_typing(event, time.monotonic()) == self.room_id:
                self._show_typing()
            if event.user_id not in self.model.names:
                self.load_names()
            return
        changed = self.model.apply(event)
        if changed is None:
            return
        if isinstance(event, ev.ConnectionChanged):
            self._show_status()
            return
        if self.model.unknown_users():
            self.load_names()
        self._show_list()
        if changed == self.room_id:
            room = self.room
            if room is not None and not room.loaded:
                self.load_history(room)
            self._show_log()
            self._mark_read()
        elif not self.room_id:
            self.open_room(changed)

    # --- showing ---

    def _show_status(self) -> None:
        color, words = _DOTS[self.model.connection]
        text = f"[{color}]\u25cf[/] {escape(self.username)} [dim]{words}[/]"
        self.query_one("#status", Static).update(text)
        if self.model.connection is ev.Connection.CLOSED and self.model.problem:
            self.notify(self.model.problem, severity="error", timeout=30)

    def _show_list(self) -> None:
        rooms = self.model.ordered()
        view = self.query_one("#list", ListView)
        order = [room.id for room in rooms]
        if order != self._order:
            self._order = order
            view.clear()
            view.extend([RoomItem(room_id) for room_id in order])
            self.call_after_refresh(self._label_list)
        else:
            self._label_list()

    def _label_list(self) -> None:
        view = self.query_one("#list", ListView)
        for index, item in enumerate(view.query(RoomItem)):
            room = self.model.rooms[item.room_id]
            text = Text(self.model.title(room)[:17], overflow="ellipsis", no_wrap=True)
            if room.unread and room.id != self.room_id:
                mark = f" @{room.mentions}" if room.mentions else f" {min(room.unread, 999)}"
                text.append(mark, style="bold yellow")
            if room.id == self.room_id:
                text.stylize("bold")
                view.index = index
            item.label.update(text)

    def _show_log(self, *, scroll: bool = True) -> None:
        room = self.room
        title = self.query_one("#title", Static)
        messages = self.query_one("#messages", Static)
        if room is None:
            title.update("")
            messages.update(
                Text("No channel yet. /direct NAME or /group NAME PEOPLE begins one.", "dim")
            )
            return
        title.update(self.model.title(room) + (" (left)" if room.gone else ""))
        text = Text()
        for line in room.lines[-SHOWN:]:
            text.append_text(self._line(line))
            text.append("\n")
        messages.update(text)
        self._show_typing()
        if scroll:
            log = self.query_one("#log", VerticalScroll)
            self.call_after_refresh(log.scroll_end, animate=False)

    def _line(self, line: Line) -> Text:
        when = f"{line.time:%H:%M}" if line.time is not None else " ... "
        own = line.sender_id == self.model.user_id
        text = Text(f"{when} ", style="dim")
        text.append(f"{self.model.name(line.sender_id)} ", "bold cyan" if own else "bold green")
        if line.deleted:
            text.append("(deleted)", "dim italic")
        else:
            # Control characters of others must not reach the terminal.
            clean = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in line.text)
            text.append(clean, "dim" if line.is_waiting else "")
        if line.edited and not line.deleted:
            text.append(" (edited)", "dim")
        for emoji, count in line.reactions.items():
            text.append(f" [{emoji} {count}]", "yellow")
        if line.failed:
            text.append(f" not sent: {line.failed}", "red")
        return text

    def _show_typing(self) -> None:
        room = self.room
        words = self.model.typing(room, time.monotonic()) if room is not None else ""
        self.query_one("#typing", Static).update(words)

    def _tick(self) -> None:
        self._show_typing()

    # --- what the user does ---

    def open_room(self, room_id: str) -> None:
        """Shows a channel."""
        self.room_id = room_id
        room = self.room
        if room is not None and not room.loaded:
            self.load_history(room)
        self._show_log()
        self._label_list()
        self._mark_read()
        self.query_one("#input").focus()

    def _mark_read(self) -> None:
        room = self.room
        if room is not None and room.head_id > room.read_id and not room.gone:
            room.read_id, room.unread, room.mentions = room.head_id, 0, 0
            self.client.channel(room.id).mark_read(room.head_id)

    @on(ListView.Selected)
    def _selected(self, event: ListView.Selected) -> None:
        if isinstance(event.item, RoomItem):
            self.open_room(event.item.room_id)

    @on(Input.Changed)
    def _typing(self, event: Input.Changed) -> None:
        room = self.room
        now = time.monotonic()
        if room is None or not event.value or event.value.startswith("/"):
            return
        if now - self._typed_at > TYPING_EVERY_S:
            self._typed_at = now
            self.client.channel(room.id).typing()

    @on(Composer.Said)
    def _said(self, event: Composer.Said) -> None:
        text = event.text
        if not text.strip():
            return
        self._typed_at = 0.0
        if text.startswith("/") and not text.startswith("//"):
            self.command(text[1:])
        elif (room := self.room) is not None:
            self.say(room, text[1:] if text.startswith("//") else text)
        else:
            self.notify("There is no channel: /direct NAME begins one", severity="warning")

    @work
    async def say(self, room: Room, text: str) -> None:
        """Sends a message; it is shown as waiting until it is stored."""
        try:
            handle = self.client.channel(room.id).post(text)
        except chinwag.ChinwagError as error:
            self.notify(str(error), severity="error")
            return
        self.model.post(room, handle.client_message_id, text)
        self._show_log()
        try:
            await handle
        except chinwag.ChinwagError as error:
            self.model.fail(room, handle.client_message_id, error.reason or str(error))
            self._show_log()

    @work
    async def command(self, text: str) -> None:
        """Runs a command such as "/group NAME PEOPLE"."""
        try:
            room_id = await run_command(self.client, self.room, self.model, text)
        except CommandFailed as failed:
            self.notify(str(failed), severity="error")
            return
        except chinwag.ChinwagError as error:
            self.notify(str(error), severity="error")
            return
        if room_id:
            self.load_channels()
            self.open_room(room_id)

    def action_next(self, step: int) -> None:
        """Shows the next or previous channel of the list."""
        if self._order:
            index = self._order.index(self.room_id) if self.room_id in self._order else 0
            self.open_room(self._order[(index + step) % len(self._order)])

    def action_older(self) -> None:
        """Scrolls up, and reads older messages at the top."""
        log = self.query_one("#log", VerticalScroll)
        if log.scroll_y <= 0 and self.room is not None and self.room.has_older:
            self.load_history(self.room)
        else:
            log.scroll_page_up(animate=False)

    def action_newer(self) -> None:
        """Scrolls down."""
        self.query_one("#log", VerticalScroll).scroll_page_down(animate=False)

    def action_help(self) -> None:
        """Shows the commands."""
        self.notify(HELP, title="Commands", timeout=15)

    def on_resize(self, event: Resize) -> None:
        """A narrow terminal keeps the list, but small."""
        self.query_one("#channels").styles.width = 24 if event.size.width >= 70 else 14
