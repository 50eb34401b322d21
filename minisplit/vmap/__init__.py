"""Mapping a plain torch function over the split axes of several DNDarrays."""

from minisplit.vmap.transform import vmap

__all__ = ["vmap"]
