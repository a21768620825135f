"""The search of `make tune` on Ray: its settings, the cluster, one trial, its MLflow runs, and the results."""
