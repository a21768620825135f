"""The HTTP server of a bundle: its requests, their limits, and its metrics."""
