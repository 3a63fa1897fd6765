"""For each rule the first seed found that notices when it is taken out."""

from __future__ import annotations

SEEDS: dict[str, int] = {
    "timestamps_by_epoch": 1,
    "tombstone_below_writes": 1,
    "tail_rewritten": 30,
    "rows_rewritten": 20,
    "projections_redone": 5,
    "touched_list": 5,
    "ack_follows_the_log": 2,
    "ack_waits_for_the_row": 64,
    "look_up_after_take_over": 1,
    "unresolved_is_not_forgotten": 2,
    "stored_epoch": 6,
}

# Not noticed yet, in about so many seeds of the flavour that the tooth names: these rules stand by
# argument. The first four were noticed (by seeds 120, 222, 37 and 69) before owners wrote what
# follows from a commit at once and looked up fewer sends; their seeds have to be found anew.
MISSED: dict[str, int] = {
    "epoch_kept_in_rewritten": 60,
    "hit_validated": 60,
    "lease_runs_on_the_own_clock": 60,
    "lease_bound_to_epoch": 60,
    "epoch_never_falls_and_delete": 350,
    "window_is_a_span": 120,
    "lease_checked_after_writes": 350,
    "readers_stop_at_the_head": 40,
    "nonce_in_it": 350,
    "conditional_delete": 150,
    "release_before_delete": 150,
    "lapsed_is_over": 150,
    "predecessors_key_is_not_adopted": 150,
}
