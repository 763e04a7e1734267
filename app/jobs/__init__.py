"""Predictions that outlive a page: a durable queue, and a worker in a process of its own."""
