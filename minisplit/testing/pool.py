from typing import Any


class Pool: ...


def shared_pool() -> Any: ...
