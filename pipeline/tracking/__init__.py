"""MLflow: where runs are stored, and what is logged."""
