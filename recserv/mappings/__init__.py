"""Tables that say how well-known exports name things: data, read by `recserv.training.mapping_tables`."""
