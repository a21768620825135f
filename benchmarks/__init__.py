"""`make bench`: measurements of the pipeline, the training, the validation and the inference."""
