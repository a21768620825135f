"""Networks, their optimizer, and .keras files."""
