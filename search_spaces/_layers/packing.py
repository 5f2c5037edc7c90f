"""Keep whole numbers of 1, 2, 4 or 8 bits in bytes, without a gap between them.

The layout: number i of b bits lies in byte i * b // 8, from bit i * b % 8 upwards, so that the
first number of a byte has its lowest bits; the last byte is filled up with zeros. Weights of a
convolution go in the order (O, k, k, C), the channels of one tap side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasx.errors import NasxError

WIDTHS = (1, 2, 4, 8)


def demand_width(bits: int, what: str) -> None:
    """Refuse a width that no byte is a multiple of."""
    if bits not in WIDTHS:
        raise NasxError(f"{what} of {bits} bits: low-bit layers take 1, 2, 4 or 8 bits")


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack whole numbers from 0 to 2^bits - 1 of any shape -> (bytes,) uint8, in their order.

    NasxError for another width, and for numbers that it does not hold.
    """
    demand_width(bits, "codes")
    flat = codes.reshape(-1)
    if flat.is_floating_point() or flat.is_complex():
        raise NasxError(f"codes of {bits} bits are whole numbers; these are {codes.dtype}")
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < 2**bits:
        raise NasxError(
            f"codes of {bits} bits go from 0 to {2**bits - 1}; these from {int(flat.min())} to "
            f"{int(flat.max())}"
        )
    each = 8 // bits
    filled = torch.zeros(-(-flat.numel() // each) * each, dtype=torch.uint8, device=codes.device)
    filled[: flat.numel()] = flat
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=codes.device)
    return (filled.reshape(-1, each) << shifts).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the first `count` numbers that `pack` wrote: (bytes,) uint8 -> (count,) uint8."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    codes: Tensor = (packed.unsqueeze(1) >> shifts) & (2**bits - 1)
    return codes.reshape(-1)[:count]
