"""What a mapped call takes: its samples, where they go, and what its function holds."""
