"""Sessions in Redis.

Keys: of each user, the set of "node NUL device"; of each node, the set of its "user NUL device",
for sweeping; the set of all nodes; and of each living node a key that expires, with the Redis run
in which it began: a restarted or other Redis may lack entries although that key is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

from chinwag_server.mesh.redis.batcher import Batcher
from chinwag_server.mesh.redis.link import RedisLink, Script
from chinwag_server.mesh.unavailable import Unavailable

MAX_BATCH = 500  # changes in one script, about 2 ms of Redis's time
MAX_WAITING = 50_000
MAX_USERS = 500  # asked for in one script
SWEEP_ROUNDS = 10

# KEYS: life, nodes; ARGV: node, milliseconds of life.
# A full Redis must not make nodes look dead: these writes are few and small.
_REFRESH = Script(
    """#!lua flags=allow-oom
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local began = redis.call('GET', KEYS[1])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('SET', KEYS[1], run, 'PX', ARGV[2])
return began == run and 1 or 0
"""
)

# KEYS: nodes, then for each change the user's and the node's set; ARGV: for each change "+" or
# "-", user, device, node. Gives 1 for each that
# was done: a full Redis takes removals alone.
_CHANGE = Script(
    """
local results = {}
for i = 1, #ARGV / 4 do
  local op, user, device, node = unpack(ARGV, 4 * i - 3, 4 * i)
  local users, own = KEYS[2 * i], KEYS[2 * i + 1]
  results[i] = 1
  if op == '+' then
    local done = redis.pcall('SADD', KEYS[1], node)
    if type(done) == 'table' then
      results[i] = 0
    else
      redis.call('SADD', own, user .. '\\0' .. device)
      redis.call('SADD', users, node .. '\\0' .. device)
    end
  else
    redis.call('SREM', users, node .. '\\0' .. device)
    redis.call('SREM', own, user .. '\\0' .. device)
  end
end
return results
"""
)

# KEYS: sets of users; ARGV: prefix of lives. Gives the living nodes of each; entries of dead ones
# are removed on the way.
_NODES_OF = Script(
    """
local lives, found = {}, {}
for i, key in ipairs(KEYS) do
  local seen, nodes = {}, {}
  for _, entry in ipairs(redis.call('SMEMBERS', key)) do
    local node = string.sub(entry, 1, string.find(entry, '\\0', 1, true) - 1)
    if lives[node] == nil then
      lives[node] = redis.call('EXISTS', ARGV[1] .. node) == 1
    end
    if not lives[node] then
      redis.call('SREM', key, entry)
    elseif not seen[node] then
      seen[node] = true
      nodes[#nodes + 1] = node
    end
  end
  found[i] = nodes
end
return found
"""
)

# KEYS: nodes; ARGV: prefixes of lives, of nodes' sets and of users' sets, most entries to remove.
_SWEEP = Script(
    """
local removed, most = 0, tonumber(ARGV[4])
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. node) == 0 then
    local own = ARGV[2] .. node
    for _, entry in ipairs(redis.call('SPOP', own, most - removed)) do
      local at = string.find(entry, '\\0', 1, true)
      local user, device = string.sub(entry, 1, at - 1), string.sub(entry, at + 1)
      redis.call('SREM', ARGV[3] .. user, node .. '\\0' .. device)
      removed = removed + 1
    end
    if removed == most then return removed end
    redis.call('SREM', KEYS[1], node)
  end
end
return removed
"""
)


# "+" or "-", user, device, node.
Change = tuple[str, str, str, str]


class RedisSessions:
    """One node's access to the sessions of all.

    Args:
        life_s: A node that does not refresh for so long is dead.
        prefix: Of the keys.
    """

    def __init__(
        self, link: RedisLink, *, life_s: float = 15.0, prefix: str = "cw:session"
    ) -> None:
        self._link = link
        self._life_ms = round(life_s * 1000)
        self._users = f"{prefix}:u:"
        self._own = f"{prefix}:own:"
        self._lives = f"{prefix}:life:"
        self._nodes = f"{prefix}:nodes"
        self._changes: Batcher[Change, bool] = Batcher(
            "sessions",
            self._change,
            most=MAX_BATCH,
            waiting=MAX_WAITING,
            timeout_s=link.timeout_s,
        )

    async def refresh(self, node_id: str) -> bool:
        keys = [self._lives + node_id, self._nodes]
        return bool(await self._link.run(_REFRESH, keys, (node_id, self._life_ms)))

    async def add(self, user_id: str, device_id: str, node_id: str) -> None:
        self._check(await self._changes.put(("+", user_id, device_id, node_id)))

    async def remove(self, user_id: str, device_id: str, node_id: str) -> None:
        await self._changes.put(("-", user_id, device_id, node_id))

    async def restore(self, node_id: str, devices: Iterable[tuple[str, str]]) -> None:
        batch: list[Change] = []
        for user_id, device_id in devices:
            batch.append(("+", user_id, device_id, node_id))
            if len(batch) == MAX_BATCH:
                self._check(all(await self._change(batch)))
                batch.clear()
        if batch:
            self._check(all(await self._change(batch)))

    async def nodes_of(self, user_ids: Collection[str]) -> dict[str, set[str]]:
        users = list(user_ids)
        parts = [users[at : at + MAX_USERS] for at in range(0, len(users), MAX_USERS)]
        found = await asyncio.gather(*(self._nodes_of(part) for part in parts))
        return {user: nodes for part in found for user, nodes in part.items()}

    async def end(self, node_id: str) -> None:
        await self._link.call("DEL", self._lives + node_id)

    async def sweep(self) -> int:
        removed = 0
        for _ in range(SWEEP_ROUNDS):
            arguments = (self._lives, self._own, self._users, MAX_BATCH)
            found = await self._link.run(_SWEEP, [self._nodes], arguments)
            removed += found
            if found < MAX_BATCH:
                break
        return removed

    async def _nodes_of(self, users: Sequence[str]) -> dict[str, set[str]]:
        keys = [self._users + user for user in users]
        found = await self._link.run(_NODES_OF, keys, (self._lives,))
        pairs = zip(users, found, strict=True)
        return {user: {name.decode() for name in names} for user, names in pairs if names}

    async def _change(self, changes: Sequence[Change]) -> list[bool]:
        keys = [self._nodes]
        arguments: list[str] = []
        for change in changes:
            _, user_id, _, node_id = change
            keys += (self._users + user_id, self._own + node_id)
            arguments += change
        return [bool(done) for done in await self._link.run(_CHANGE, keys, arguments)]

    def _check(self, done: bool) -> None:
        if not done:
            raise Unavailable(f"{self._link.address} is full: raise its maxmemory")
