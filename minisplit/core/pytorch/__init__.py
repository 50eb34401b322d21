"""What minisplit knows of PyTorch: its dtypes, devices, structures, and what its transforms make of a tensor."""
