"""The Model Registry: versions, champion comparison and bundles."""
