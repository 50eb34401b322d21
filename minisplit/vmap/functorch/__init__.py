"""What mapping needs of torch beyond `torch.vmap`: its internals, and its random functions."""
