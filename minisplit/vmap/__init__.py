"""Mapping a plain torch function over the split axes of several DNDarrays."""

from minisplit.vmap.along_axis import apply_along_axis
from minisplit.vmap.transform import vmap

__all__ = ["apply_along_axis", "vmap"]
