"""What minisplit knows of PyTorch: its dtypes, devices and structures, and what its transforms make of a tensor."""
