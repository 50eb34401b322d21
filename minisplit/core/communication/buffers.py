"""The memory of tensors, as message-passing libraries read and write it.

Tested in tests/core/communication/mpi/test_exchange.py and tests/core/communication/test_protocol.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from minisplit.core.pytorch.transforms import has_memory


def is_accessible(tensor: torch.Tensor, cuda_aware: bool) -> bool:
    """Whether a message-passing library can read and write the memory of a tensor."""
    return cuda_aware or tensor.device.type == "cpu"


def new_buffer(like: torch.Tensor, cuda_aware: bool) -> torch.Tensor:
    """Contiguous memory for as many elements as `like` has, which the library can read and write."""
    if is_accessible(like, cuda_aware):
        return torch.empty(like.shape, dtype=like.dtype, device=like.device)
    # From pinned memory a GPU copies without a second copy by the driver.
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=torch.cuda.is_available())


def send_buffer(source: torch.Tensor, cuda_aware: bool) -> torch.Tensor:
    """A tensor as contiguous memory that the library can read: itself where it is that."""
    packed = source.detach().resolve_conj().resolve_neg().contiguous()
    packed = packed if has_memory(packed) else packed.clone()
    return packed if is_accessible(packed, cuda_aware) else new_buffer(packed, cuda_aware).copy_(packed)


def in_host_memory(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous tensor where every library reads and writes it: itself, or a copy of it."""
    return tensor if tensor.device.type == "cpu" else new_buffer(tensor, cuda_aware=False).copy_(tensor)


def synchronise(tensor: torch.Tensor) -> None:
    """Wait until a GPU has computed what a library is to read, or has read what one is to write."""
    if tensor.device.type == "cuda":
        torch.cuda.current_stream(tensor.device).synchronize()


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether the memory of a tensor is its elements in order, and no conjugate or negative of them."""
    return tensor.is_contiguous() and not (tensor.is_conj() or tensor.is_neg()) and has_memory(tensor)


def broadcast_buffer(tensor: torch.Tensor, is_root: bool, cuda_aware: bool) -> torch.Tensor:
    """Contiguous memory for a broadcast: on the root a copy of the tensor, on others room for what comes."""
    if not is_root:
        return new_buffer(tensor, cuda_aware)
    buffer = send_buffer(tensor, cuda_aware)
    # The result of the broadcast is no view of the argument.
    return buffer.clone() if buffer.data_ptr() == tensor.data_ptr() else buffer


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The memory of a contiguous tensor, which it shares, as uint8: NumPy and gloo lack some dtypes."""
    # torch calls a tensor of one element contiguous whatever its stride, but does not view it as bytes then.
    return tensor.detach().as_strided((tensor.numel(),), (1,)).view(torch.uint8)


def split_into_chunks(piece: torch.Tensor, limit: int) -> Iterator[torch.Tensor]:
    """Cut a tensor along its first axes into views of at most `limit` bytes.

    The cuts follow from the shape and dtype alone, so sender and receiver cut alike whatever the strides of their
    tensors. The chunks of a contiguous tensor are contiguous.
    """
    size = piece.nbytes
    if size <= limit or piece.numel() == 1:
        if size:
            yield piece
        return
    axis = next(axis for axis, n in enumerate(piece.shape) if n > 1)
    for part in torch.split(piece, max(1, piece.shape[axis] * limit // size), axis):
        yield from split_into_chunks(part, limit)
