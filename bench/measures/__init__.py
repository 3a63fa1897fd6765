"""What is measured, a module for each kind of load; each has `measure(bench) -> rows`."""

from bench.measures import (
    catchup,
    comeback,
    delivery,
    direct,
    envoy,
    group,
    history,
    idle,
    mesh,
    mesh_faults,
    mesh_readers,
    mesh_takeover,
    most,
    receipts,
    transports,
)

# In the order of the table.
MEASURES = {
    "group": group.measure,
    "envoy": envoy.measure,
    "most": most.measure,
    "direct": direct.measure,
    "delivery": delivery.measure,
    "idle": idle.measure,
    "comeback": comeback.measure,
    "catchup": catchup.measure,
    "receipts": receipts.measure,
    "history": history.measure,
    "transports": transports.measure,
    "mesh": mesh.measure,
    "mesh_faults": mesh_faults.measure,
    "mesh_readers": mesh_readers.measure,
    "mesh_takeover": mesh_takeover.measure,
}
