"""Operations on DNDarrays: plain torch on the shards, after the operands have come to one layout."""

from minisplit.ops import interop  # noqa: F401 - hangs on DNDarray what other libraries ask of it
