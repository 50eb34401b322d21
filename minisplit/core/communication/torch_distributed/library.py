"""torch.distributed: type checkers see only some of its names.

Tested in tests/core/communication/torch_distributed/test_communication.py.
"""

from typing import Any

import torch.distributed

dist: Any = torch.distributed
Store = Any
