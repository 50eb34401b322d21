"""What `x[key]` selects, and how its rows come to the ranks that need them."""
