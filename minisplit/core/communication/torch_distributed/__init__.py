"""Ranks that are processes of torch.distributed. Imported only where it is the engine, or is asked for."""
