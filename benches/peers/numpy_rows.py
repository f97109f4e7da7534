"""Equal rows by numpy: the matrix as bytes, and a dict over the rows' bytes.

    python numpy_rows.py model.safetensors

Of a file with one tensor. Memory holds the matrix and a copy of each value.
"""

import json
import struct
import sys

import numpy


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        (tensor,) = json.loads(file.read(length)).values()
        rows = tensor["shape"][0]
        matrix = numpy.fromfile(file, dtype=numpy.uint8).reshape(rows, -1)
    groups: dict[bytes, list[int]] = {}
    for number in range(rows):
        groups.setdefault(matrix[number].tobytes(), []).append(number)
    found = [group for group in groups.values() if len(group) > 1]
    print(len(found), sum(map(len, found)))


main()
