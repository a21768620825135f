"""Errors, files, parameters and processor facts: what every stage needs."""
