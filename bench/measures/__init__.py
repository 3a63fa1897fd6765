"""What is measured, a module for each kind of load; each has `measure(bench) -> rows`."""

from bench.measures import delivery, direct, group, history, idle

# In the order of the table.
MEASURES = {
    "group": group.measure,
    "direct": direct.measure,
    "delivery": delivery.measure,
    "idle": idle.measure,
    "history": history.measure,
}
