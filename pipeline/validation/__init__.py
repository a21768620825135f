"""Data validation: tables, statistics, expectations, drift and Data Docs."""
