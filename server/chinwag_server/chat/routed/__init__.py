"""Chat over many nodes: what is asked goes to the channel's owner, what is committed to the nodes
that hold its members' devices. `across.Across` puts it together."""
