"""Evaluation: metrics with intervals, reliability, predictions and plots."""
