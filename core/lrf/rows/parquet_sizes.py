"""How much memory a Parquet file takes once it is unpacked: found out before anything is unpacked.

A column can be far smaller on the disk than in memory, beyond its compression: a text in its dictionary is stored once
and repeated as often as rows refer to it, and ``DELTA_BYTE_ARRAY`` stores what a text has in common with the one before
only once. So such columns are read as references to their dictionary where they may be large, and rows are measured
before their texts are made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lrf.errors import DataError

LARGEST_GROUP = 1 << 33
"""Bytes of a row group at most, unpacked."""
ALWAYS_FINE = 1 << 30
"""Bytes that a column of a row group may take whatever it refers to."""
VALUE_BYTES = 64
"""Bytes that a value of a row takes as a Python object, about."""

BUFFER = 1 << 20
"""Bytes that are read at once; without it a row group's column is read whole."""

_ADVICE = "write the file with smaller row groups"


def check_groups(metadata: Any, name: str, columns: Iterable[str]) -> list[str]:
    """The columns (as paths in the schema) that are to be read as references to their dictionary.

    ``name`` is the file's; ``columns`` are those that are read. Raises :class:`lrf.errors.DataError` for a row group
    that may take more than :data:`LARGEST_GROUP` bytes although its columns are read so.
    """
    wanted = tuple(f"{column}." for column in columns)
    large: dict[str, None] = {}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        where = f"{name}: row group {number}"
        if group.total_byte_size > LARGEST_GROUP:
            raise DataError(f"{where} takes {_unpacked(group.total_byte_size)}; {_ADVICE}")
        for place in range(group.num_columns):
            column = group.column(place)
            if f"{column.path_in_schema}.".startswith(wanted):
                large |= _large(column, where)
    return list(large)


def _large(column: Any, where: str) -> dict[str, None]:
    """The column, if it is to be read as references. Raises DataError for one that can't be read in bounds."""
    name = column.path_in_schema
    if column.num_values * VALUE_BYTES > LARGEST_GROUP:
        raise DataError(f"{where}, column {name} has {column.num_values:,} values; {_ADVICE}")
    most = column.num_values * column.total_uncompressed_size  # a value is no longer than all that is stored
    if column.physical_type != "BYTE_ARRAY" or most <= ALWAYS_FINE:
        return {}
    if "DELTA_BYTE_ARRAY" in column.encodings and most > LARGEST_GROUP:
        raise DataError(f"{where}, column {name} (DELTA_BYTE_ARRAY) may take {_unpacked(most)}; {_ADVICE} or PLAIN")
    return {name: None} if column.has_dictionary_page and "DELTA_BYTE_ARRAY" not in column.encodings else {}


def _unpacked(size: int) -> str:
    return f"{size:,} bytes unpacked; {LARGEST_GROUP:,} are the most that are read"


def bytes_of(array: pa.Array) -> int:
    """Bytes that the values of an Arrow array take as Python objects, about. Nothing is unpacked for it."""
    if pa.types.is_dictionary(array.type):
        lengths = _lengths(array.dictionary)
        return VALUE_BYTES * len(array) + (_sum(lengths.take(array.indices)) if lengths is not None else 0)
    if pa.types.is_struct(array.type):
        return VALUE_BYTES * len(array) + sum(map(bytes_of, array.flatten()))
    if pa.types.is_map(array.type):  # its flatten() is that of its keys and items, without the offsets
        begin, end = array.offsets[0].as_py(), array.offsets[-1].as_py()
        return VALUE_BYTES * len(array) + sum(bytes_of(part[begin:end]) for part in (array.keys, array.items))
    if pa.types.is_nested(array.type):
        return VALUE_BYTES * len(array) + bytes_of(array.flatten())
    lengths = _lengths(array)
    return VALUE_BYTES * len(array) + (_sum(lengths) if lengths is not None else 0)


def _lengths(array: pa.Array) -> pa.Array | None:
    kind = array.type
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if texts or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pc.binary_length(array)
    return None


def _sum(numbers: pa.Array) -> int:
    return pc.sum(numbers.cast(pa.int64())).as_py() or 0
