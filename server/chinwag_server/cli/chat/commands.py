"""What can be typed after a slash."""

from __future__ import annotations

from collections.abc import Sequence

import chinwag
from chinwag.errors import NotFound
from chinwag_server.cli.chat.model import Model, Room

HELP = """\
/direct NAME           talk to somebody
/group TITLE PEOPLE    make a group
/add PEOPLE            add people to this group
/remove NAME           remove somebody
/leave                 leave this channel
/edit TEXT             change your last message
/delete                delete your last message
/react EMOJI           react to the last message
/help                  this"""


class CommandFailed(Exception):
    """What was typed cannot be done: the text says why."""


async def run_command(
    client: chinwag.Client, room: Room | None, model: Model, text: str
) -> str | None:
    """Runs a command.

    Args:
        room: The channel that is shown.
        text: Without the slash.

    Returns:
        A channel to show, or None.

    Raises:
        CommandFailed: The words are off.
        ChinwagError: The server refused.
    """
    name, _, rest = text.partition(" ")
    words = rest.split()
    if name == "direct" and len(words) == 1:
        (user_id,) = await _find(client, words)
        return (await client.direct(user_id)).id
    if name == "group" and words:
        people = await _find(client, words[1:])
        return (await client.create_group(words[0], people)).id
    if name == "help":
        raise CommandFailed(HELP)
    if name not in ("add", "remove", "leave", "edit", "delete", "react"):
        raise CommandFailed(f"there is no /{name} like that: /help lists the commands")
    if room is None:
        raise CommandFailed("there is no channel here")
    channel = client.channel(room.id)
    if name == "add" and words:
        await channel.add_members(await _find(client, words))
    elif name == "remove" and len(words) == 1:
        (user_id,) = await _find(client, words)
        await channel.remove_member(user_id)
    elif name == "leave":
        await channel.leave()
    elif name == "edit" and rest:
        await channel.edit(_last(room, model.user_id), rest)
    elif name == "delete":
        await channel.delete(_last(room, model.user_id))
    elif name == "react" and len(words) == 1:
        await channel.react(_last(room, ""), words[0])
    else:
        raise CommandFailed(f"/{name} needs other words: /help says which")
    return None


def _last(room: Room, sender_id: str) -> int:
    for line in reversed(room.lines):
        if line.id and not line.deleted and sender_id in ("", line.sender_id):
            return line.id
    raise CommandFailed("there is no such message here")


async def _find(client: chinwag.Client, names: Sequence[str]) -> list[str]:
    found = []
    for name in names:
        try:
            user = await client.account.find(name.removeprefix("@"))
        except NotFound:
            raise CommandFailed(f"there is nobody called {name}") from None
        found.append(user.id)
    return found
