"""The search of `make tune` on Ray: its settings, one trial, its MLflow runs, and the results."""
