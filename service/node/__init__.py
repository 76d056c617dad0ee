"""The node and its workers put together."""
