"""File formats, a module each; `registry` chooses among them."""
