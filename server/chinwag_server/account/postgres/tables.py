"""The tables' first form: what migration 1 makes.

Tables of users are split by hash of the user's id into the same number of partitions each, so
that partition 7 of each table holds the same users; names by hash of the name. What is left, keys
and the answers to keys, is small and stays whole. Free text of clients is BYTEA: a TEXT of
PostgreSQL holds no NUL, and theirs may.
"""

from __future__ import annotations

PARTITIONS = 32

# (table, what it is split by, its columns). Collation "C": bytes decide, as in every other store,
# and no update of the system's locales can spoil an index.
_SPLIT = (
    (
        "users",
        "user_id",
        """
        user_id TEXT COLLATE "C" PRIMARY KEY,
        version BIGINT NOT NULL,
        username TEXT COLLATE "C" NOT NULL,
        password_hash TEXT NOT NULL,
        profile BYTEA NOT NULL,           -- chinwag.account.v1.User
        privacy BYTEA NOT NULL,           -- chinwag.account.v1.PrivacySettings
        create_time_us BIGINT NOT NULL,
        update_time_us BIGINT NOT NULL,
        deleted BOOLEAN NOT NULL,
        event_id BIGINT NOT NULL,         -- of the newest event
        ban_time_us BIGINT,               -- NULL: not banned
        ban_reason BYTEA,
        ban_expire_time_us BIGINT,
        ban_api_key_id TEXT COLLATE "C",
        commit_id BYTEA NOT NULL          -- drawn for each commit, which knows itself by it
        """,
    ),
    (
        "sessions",
        "user_id",
        """
        user_id TEXT COLLATE "C" NOT NULL,
        device_id TEXT COLLATE "C" NOT NULL,
        info BYTEA NOT NULL,              -- chinwag.account.v1.DeviceInfo
        salt BYTEA NOT NULL,
        refresh_count BIGINT NOT NULL,
        refreshable BOOLEAN NOT NULL,
        create_time_us BIGINT NOT NULL,
        active_time_us BIGINT NOT NULL,
        address TEXT NOT NULL,
        token_time_us BIGINT NOT NULL,
        expire_time_us BIGINT NOT NULL,
        ended_time_us BIGINT NOT NULL,    -- 0: it has not
        end_reason INTEGER NOT NULL,      -- chinwag.account.v1.DeviceRevokeReason
        acked_event_id BIGINT NOT NULL,
        PRIMARY KEY (user_id, device_id)
        """,
    ),
    (
        "relations",
        "user_id",
        """
        user_id TEXT COLLATE "C" NOT NULL,
        other_id TEXT COLLATE "C" NOT NULL,
        state SMALLINT NOT NULL,          -- RelationState
        revision BIGINT NOT NULL,
        time_us BIGINT NOT NULL,
        message BYTEA NOT NULL,           -- UTF-8
        PRIMARY KEY (user_id, other_id)
        """,
    ),
    (
        "blocks",
        "user_id",
        """
        user_id TEXT COLLATE "C" NOT NULL,
        other_id TEXT COLLATE "C" NOT NULL,
        time_us BIGINT NOT NULL,
        PRIMARY KEY (user_id, other_id)
        """,
    ),
    (
        "events",
        "user_id",
        """
        user_id TEXT COLLATE "C" NOT NULL,
        id BIGINT NOT NULL,
        time_us BIGINT NOT NULL,
        payload BYTEA NOT NULL,           -- chinwag.account.v1.AccountEvent
        PRIMARY KEY (user_id, id)
        """,
    ),
    (
        "requests",
        "user_id",
        """
        user_id TEXT COLLATE "C" NOT NULL,
        scope TEXT COLLATE "C" NOT NULL,
        request_id BYTEA NOT NULL,        -- UTF-8
        time_us BIGINT NOT NULL,
        content_hash BYTEA NOT NULL,
        response BYTEA NOT NULL,
        PRIMARY KEY (user_id, scope, request_id)
        """,
    ),
    (
        "chores",
        "user_id",
        """
        user_id TEXT COLLATE "C" NOT NULL,
        kind TEXT COLLATE "C" NOT NULL,
        target TEXT COLLATE "C" NOT NULL,
        revision BIGINT NOT NULL,
        due_time_us BIGINT NOT NULL,
        PRIMARY KEY (user_id, kind, target)
        """,
    ),
    (
        "names",
        "name",
        """
        name TEXT COLLATE "C" PRIMARY KEY,
        user_id TEXT COLLATE "C" NOT NULL,
        confirmed BOOLEAN NOT NULL,
        time_us BIGINT NOT NULL
        """,
    ),
)

_INDEXES = """
CREATE INDEX users_by_ban ON users (ban_time_us, user_id) WHERE ban_time_us IS NOT NULL;
CREATE INDEX sessions_by_expiry ON sessions (expire_time_us) WHERE ended_time_us = 0;
CREATE INDEX sessions_by_end ON sessions (ended_time_us) WHERE ended_time_us > 0;
CREATE INDEX relations_by_time ON relations (user_id, state, time_us, other_id);
CREATE INDEX relations_ended ON relations (time_us) WHERE state = 0;
CREATE INDEX blocks_by_time ON blocks (user_id, time_us, other_id);
CREATE INDEX events_by_time ON events (time_us);
CREATE INDEX requests_by_time ON requests (time_us);
CREATE INDEX chores_by_time ON chores (due_time_us);
CREATE INDEX names_unconfirmed ON names (time_us) WHERE NOT confirmed;
"""

_WHOLE = """
CREATE TABLE api_keys (
    key_id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT NOT NULL,
    scopes TEXT[] NOT NULL,
    secret_hash BYTEA NOT NULL,           -- SHA-256
    create_time_us BIGINT NOT NULL,
    expire_time_us BIGINT NOT NULL,       -- 0: never
    used_time_us BIGINT NOT NULL,
    creator_key_id TEXT COLLATE "C" NOT NULL,
    revoked_time_us BIGINT NOT NULL       -- 0: it is not
);

-- Answers of API keys' own partitions, beside the keys: both are stored in one transaction.
CREATE TABLE key_requests (
    partition TEXT COLLATE "C" NOT NULL,  -- 'key:' and an API key
    scope TEXT COLLATE "C" NOT NULL,
    request_id BYTEA NOT NULL,            -- UTF-8
    time_us BIGINT NOT NULL,
    content_hash BYTEA NOT NULL,
    response BYTEA NOT NULL,
    PRIMARY KEY (partition, scope, request_id)
);
CREATE INDEX key_requests_by_time ON key_requests (time_us);

CREATE TABLE signing_keys (
    key_id TEXT COLLATE "C" PRIMARY KEY,
    private BYTEA NOT NULL,
    use_from_us BIGINT NOT NULL
);

CREATE TABLE secrets (
    name TEXT COLLATE "C" PRIMARY KEY,
    value BYTEA NOT NULL
);
"""


def partitions(table: str) -> list[str]:
    """The partitions of a table that is split, by remainder."""
    return [f"{table}_p{number:02}" for number in range(PARTITIONS)]


def script() -> str:
    """All of it as SQL."""
    parts = []
    for table, key, columns in _SPLIT:
        parts.append(f"CREATE TABLE {table} ({columns}) PARTITION BY HASH ({key});")
        parts += [
            f"CREATE TABLE {name} PARTITION OF {table} "
            f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number});"
            for number, name in enumerate(partitions(table))
        ]
    return "\n".join([*parts, _INDEXES, _WHOLE])
