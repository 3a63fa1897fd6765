"""The inbox's Lua scripts.

Keys: a marker {g: generation, r: the Redis run that it was made in, h: the highest stamp given}; a
lock of who raises the generation; a sorted set a user, of channel ids by stamp. In each set the
member "" has the highest stamp that was trimmed away: whoever asks from below it misses something.

Stamps are microseconds of Redis's clock, below 2**53, which a Lua number and a score hold exactly.
"""

from __future__ import annotations

from chinwag_server.mesh.redis.link import Script

OK = 1  # (OK, generation, ...)
WAIT = 0  # lost; somebody raises the generation
CLAIM = -1  # lost; the caller is to raise the generation

# ARGV[1]: the lowest generation that is believed. ARGV[2]: milliseconds in which nobody else
# raises. A run ends with each restart, and another server has another one: then writes that were
# acked may be gone although the marker is there.
_CHECK = """
local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
end
local function clock(high)
  local t = redis.call('TIME')
  return math.max(tonumber(t[1]) * 1000000 + tonumber(t[2]), high)
end
local marker = redis.call('HMGET', KEYS[1], 'g', 'r', 'h')
local generation = tonumber(marker[1] or '-1')
local high = tonumber(marker[3] or '0')
local run = run_id()
if marker[2] ~= run or generation < tonumber(ARGV[1]) then
  -- A lock of another run was copied from there.
  if redis.call('GET', KEYS[2]) == run then return {0} end
  redis.call('SET', KEYS[2], run, 'PX', ARGV[2])
  return {-1}
end
local function remember(stamp)
  redis.call('HSET', KEYS[1], 'h', string.format('%.0f', stamp))
end
"""

# KEYS[3...]: users' sets; ARGV[3]: milliseconds to keep, ARGV[4]: channels to keep; ARGV[5...]:
# the channel that changed for each of KEYS[3...].
TOUCH = Script(
    "#!lua\n"
    + _CHECK
    + """
local stamp = clock(high)
local most = tonumber(ARGV[4])
for i = 3, #KEYS do
  local key = KEYS[i]
  stamp = stamp + 1
  if redis.call('ZADD', key, string.format('%.0f', stamp), ARGV[i + 2]) == 1 then
    local over = redis.call('ZCARD', key) - most
    if over > 1 then
      local last = redis.call('ZRANGE', key, over - 1, over - 1, 'WITHSCORES')
      redis.call('ZREMRANGEBYRANK', key, 0, over - 1)
      redis.call('ZADD', key, last[2], '')
    end
  end
  redis.call('PEXPIRE', key, ARGV[3])
end
remember(stamp)
return {1, generation}
"""
)

# Reading must go on when Redis is full: the one write is to a field that is there.
# KEYS[3]: the user's set; ARGV[3]: the device's generation, ARGV[4]: its stamp, ARGV[5]: the oldest
# age of a stamp, microseconds, ARGV[6]: limit.
CHANGED = Script(
    "#!lua flags=allow-oom\n"
    + _CHECK
    + """
local now = clock(high)
remember(now)
local stamp = tonumber(ARGV[4])
local floor = tonumber(redis.call('ZSCORE', KEYS[3], '') or '0')
if tonumber(ARGV[3]) ~= generation or stamp > now or stamp < floor
    or stamp < now - tonumber(ARGV[5]) then
  return {1, generation, now, 0, {}}
end
return {1, generation, now, 1, redis.call('ZRANGE', KEYS[3], '(' .. ARGV[4], '+inf', 'BYSCORE',
  'LIMIT', 0, tonumber(ARGV[6]) + 1, 'WITHSCORES')}
"""
)

NOW = Script(
    "#!lua flags=allow-oom\n"
    + _CHECK
    + """
local now = clock(high)
remember(now)
return {1, generation, now}
"""
)

# ARGV[1]: the raised generation. Gives the one that holds: a higher one of this run stays.
CLAIM_GENERATION = Script(
    """#!lua flags=allow-oom
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local marker = redis.call('HMGET', KEYS[1], 'g', 'r', 'h')
if marker[2] == run and tonumber(marker[1]) >= tonumber(ARGV[1]) then
  return tonumber(marker[1])
end
redis.call('HSET', KEYS[1], 'g', ARGV[1], 'r', run, 'h', marker[3] or '0')
return tonumber(ARGV[1])
"""
)
