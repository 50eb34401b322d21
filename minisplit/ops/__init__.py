"""Operations on DNDarrays: plain torch on the shards, after the operands have come to one layout."""
