"""Arrays in files: a module per format, and what loads and saves in all of them."""
