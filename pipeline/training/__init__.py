"""Training: settings, input pipeline, fit, checkpoints and temperature scaling."""
