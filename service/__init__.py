"""The node: network, database, durable work, commands and pages."""
