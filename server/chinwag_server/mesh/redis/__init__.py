"""Redis as what the nodes share: nothing in it that could not be made again."""

from chinwag_server.mesh.redis.bus import RedisBus
from chinwag_server.mesh.redis.inbox import RedisInbox
from chinwag_server.mesh.redis.link import RedisLink
from chinwag_server.mesh.redis.rates import RedisRates
from chinwag_server.mesh.redis.sessions import RedisSessions

__all__ = ["RedisBus", "RedisInbox", "RedisLink", "RedisRates", "RedisSessions"]
