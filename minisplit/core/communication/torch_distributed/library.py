"""torch.distributed, of whose names type checkers see some only.

Tested in tests/core/communication/torch_distributed/test_communication.py.
"""

from typing import Any

import torch.distributed

dist: Any = torch.distributed
Store = Any
