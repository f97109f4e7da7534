"""Equal rows by `torch.unique(dim=0)`, as most scripts have it.

    python torch_unique.py model.safetensors

Of a file with one tensor of 16-bit elements, compared as integers. It sorts whole rows on one thread:
minutes, and several times the matrix in memory.
"""

import json
import struct
import sys

import torch


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        (tensor,) = json.loads(file.read(length)).values()
        matrix = torch.frombuffer(bytearray(file.read()), dtype=torch.int16)
    _, counts = torch.unique(matrix.reshape(tensor["shape"]), dim=0, return_counts=True)
    print(int((counts > 1).sum()), int(counts[counts > 1].sum()))


main()
