"""HTML pages without external files."""
