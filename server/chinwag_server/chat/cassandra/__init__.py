"""`Tables` in Cassandra."""
