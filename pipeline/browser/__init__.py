"""A page that runs a bundle in a browser: its template, its scripts, and ONNX Runtime Web."""
