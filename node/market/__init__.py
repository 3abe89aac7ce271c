"""What a node knows of its market: an event log, a database made of it, and answers out of that."""
