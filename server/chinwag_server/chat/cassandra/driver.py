"""How the driver is set up: which nodes, what is tried again, when a second node is asked too.

Everything may run twice: reads, writes with their timestamps, and conditional writes that know
their own nonce when they find it stored.
"""

from __future__ import annotations

import ssl
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import (
    ConstantReconnectionPolicy,
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import tuple_factory

from chinwag_server.chat.cassandra.address import Address
from chinwag_server.chat.store import StoreError

PROTOCOL = 5  # Cassandra 4.0 and later
CONNECT_S = 5.0
RECONNECT_S = 1.0
# Without an answer by then a second node is asked too: a frozen one costs this much.
SECOND_NODE_S = 0.5
# How soon a connection that is silent counts as dead: the two together.
HEARTBEAT_S = 5.0
HEARTBEAT_ANSWER_S = 5.0


class RepeatOnNextNode:
    """Tries a statement once more, on another node, whatever the failure."""

    def on_read_timeout(self, *_: Any, retry_num: int, **__: Any) -> tuple[int, None]:
        return (RetryPolicy.RETHROW if retry_num else RetryPolicy.RETRY_NEXT_HOST), None

    on_write_timeout = on_unavailable = on_read_timeout

    def on_request_error(self, *_: Any, **__: Any) -> tuple[int, None]:
        # A broken connection or a node that is busy: each node is asked once at most.
        return RetryPolicy.RETRY_NEXT_HOST, None


def make(address: Address) -> Any:
    """A `Cluster` that is not connected yet.

    Blocks while names of hosts are looked up.

    Raises:
        StoreError: The file of certificates cannot be read.
    """
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(address.datacenter)),
        retry_policy=RepeatOnNextNode(),
        consistency_level=ConsistencyLevel.QUORUM,
        serial_consistency_level=ConsistencyLevel.SERIAL,
        row_factory=tuple_factory,
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(SECOND_NODE_S, 1),
    )
    return Cluster(
        list(address.hosts),
        protocol_version=PROTOCOL,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        auth_provider=PlainTextAuthProvider(address.user, address.password)
        if address.user
        else None,
        ssl_context=_ssl(address) if address.ca else None,
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_S, max_attempts=None),
        # A node is told of a statement when it is first asked to run it.
        prepare_on_all_hosts=False,
        connect_timeout=CONNECT_S,
        control_connection_timeout=CONNECT_S,
        idle_heartbeat_interval=HEARTBEAT_S,
        idle_heartbeat_timeout=HEARTBEAT_ANSWER_S,
        application_name="chinwag",
    )


def _ssl(address: Address) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.ca)
    except OSError as error:
        raise StoreError(f"{address}: ca={address.ca} cannot be read: {error}") from error
    # Nodes are known by addresses that the cluster itself gives; certificates have names.
    context.check_hostname = False
    return context
