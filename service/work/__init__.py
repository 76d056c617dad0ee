"""Durable work: runs, deliveries, fetches, and the queues that carry them."""
