"""Values other than objects: numbers, strings, containers, arrays, tensors, generators."""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from skpartial._saving._known import Refused
from skpartial._saving._walk import Kind, Reader, Writer

__all__ = ["VALUE_KINDS"]

# Types of arrays that are saved as tensors of another type, and that type.
_VIEWS = ((re.compile(r"<[Mm]8(\[\w+\])?"), "int64"), (re.compile(r"<c8"), "float32"), (re.compile(r"<c16"), "float64"))
# Arrays of strings up to this many characters wide may be wider than their strings.
_WIDE = 64
_OF_OBJECTS = re.compile(r"\|O|<U\d{1,6}")
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def _write_number(writer: Writer, value: float) -> Any:
    return {"number": repr(value)}


def _read_number(reader: Reader, entry: Any) -> float:
    value = float(entry["number"])
    if math.isfinite(value):
        raise Refused("it is damaged: an invalid number")
    return value


def _write_scalar(writer: Writer, value: Any) -> Any:
    return {"value": writer.write(np.asarray(value), "value")}


def _read_scalar(reader: Reader, entry: Any) -> Any:
    return reader.read(entry["value"])[()]


def _write_items(writer: Writer, values: Any) -> Any:
    return {"items": [writer.write(value, str(i)) for i, value in enumerate(values)]}


def _read_items(reader: Reader, entry: Any) -> Any:
    return [reader.read(item) for item in entry["items"]]


def _write_pairs(writer: Writer, values: Any) -> Any:
    return {"items": [[writer.write(key, "key"), writer.write(value, str(key))] for key, value in values.items()]}


def _read_pairs(reader: Reader, entry: Any) -> Any:
    return {reader.read(key): reader.read(value) for key, value in entry["items"]}


def _write_bounds(writer: Writer, value: Any) -> Any:
    return {"items": [writer.write(bound, "bound") for bound in (value.start, value.stop, value.step)]}


# ----------------------------------------------------------------------------------------------------------- arrays


def _write_array(writer: Writer, array: Any) -> Any:
    dtype = array.dtype
    if dtype.names is not None:
        return {
            "fields": [[name, writer.write(np.array(array[name]), name)] for name in dtype.names],
            "shape": list(array.shape),
        }
    if dtype.kind in "OU":
        items = [writer.write(item, str(i)) for i, item in enumerate(array.ravel().tolist())]
        return {"dtype": dtype.newbyteorder("<").str, "shape": list(array.shape), "items": items}
    if dtype.kind not in "biufcMm" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise Refused(f"it is an array of type {dtype}")
    # Types that only differ by their name in C are equal.
    native = array.astype(dtype.newbyteorder("="), copy=False).view(np.dtype(dtype.newbyteorder("=").str))
    columns_first = native.ndim > 1 and native.flags.f_contiguous and not native.flags.c_contiguous
    whole = np.array(native.T if columns_first else native, order="C", copy=None)
    kept = next((kept for pattern, kept in _VIEWS if pattern.fullmatch(dtype.newbyteorder("<").str)), None)
    if kept is not None:
        whole = whole.reshape(*whole.shape, 1).view(kept)
    if not whole.flags.writeable:
        whole = whole.copy()  # PyTorch warns about other arrays
    entry = writer.tensor(torch.from_numpy(whole)) | {"dtype": dtype.newbyteorder("<").str}
    return entry | ({"order": "F"} if columns_first else {})


def _read_array(reader: Reader, entry: Any) -> Any:
    if "fields" in entry:
        parts = [(_word(name), reader.read(part)) for name, part in entry["fields"]]
        found = np.empty(_shape(entry, least=parts[0][1].size), dtype=[(name, part.dtype) for name, part in parts])
        for name, part in parts:
            found[name] = part
        return found
    if "items" in entry:
        items = [reader.read(item) for item in entry["items"]]
        if _OF_OBJECTS.fullmatch(entry["dtype"]) is None or not all(
            isinstance(item, str) for item in items if entry["dtype"] != "|O"
        ):
            raise Refused("it is damaged: an array of another type")
        found = np.empty(len(items), dtype=object)
        for i, item in enumerate(items):
            found[i] = item  # one by one: items may be sequences
        if entry["dtype"] != "|O":
            # Not wider than its strings, if that would take far more memory than the file.
            width = min(int(entry["dtype"][2:]), max(_WIDE, *map(len, items), _WIDE))
            found = found.astype(f"<U{width}")
        return found.reshape(_shape(entry, least=len(items)))
    found = reader.tensor(entry).numpy()
    dtype = _word(entry["dtype"])
    if found.dtype.newbyteorder("<").str != dtype:
        kept = next((kept for pattern, kept in _VIEWS if pattern.fullmatch(dtype)), None)
        if kept is None or found.dtype != np.dtype(kept):
            raise Refused("it is damaged: an array of another type")
        found = found.view(np.dtype(dtype))[..., 0]
    return found.T if entry.get("order") == "F" else found


def _shape(entry: Any, least: int) -> tuple[int, ...]:
    """The shape of an array with at least `least` items."""
    shape = tuple(entry["shape"])
    if not all(type(side) is int and side >= 0 for side in shape) or math.prod(shape) != least:
        raise Refused("it is damaged: an array of another shape")
    return shape


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("it is damaged: something else instead of a string")
    return value


def _write_masked(writer: Writer, array: Any) -> Any:
    parts = np.asarray(array.data), np.ma.getmaskarray(array), np.asarray(array.fill_value)
    return {name: writer.write(part, name) for name, part in zip(("data", "mask", "fill"), parts)}


def _read_masked(reader: Reader, entry: Any) -> Any:
    data, mask, fill = (reader.read(entry[name]) for name in ("data", "mask", "fill"))
    return np.ma.MaskedArray(data, mask=mask, fill_value=fill[()])


_SPARSE = {
    kind.__name__: kind
    for kind in (sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix, sp.csc_matrix, sp.coo_matrix)
}


def _write_sparse(writer: Writer, matrix: Any) -> Any:
    by_coordinates = matrix.format == "coo"
    parts = {"data": matrix.data} | (
        dict(zip(("row", "column"), matrix.coords))
        if by_coordinates
        else {"indices": matrix.indices, "indptr": matrix.indptr}
    )
    return {
        "class": type(matrix).__name__,
        "shape": list(matrix.shape),
        **{name: writer.write(np.asarray(part), name) for name, part in parts.items()},
    }


def _read_sparse(reader: Reader, entry: Any) -> Any:
    kind = _SPARSE[_word(entry["class"])]
    shape = tuple(entry["shape"])
    if len(shape) != 2 or not all(type(side) is int and side >= 0 for side in shape):
        raise Refused("it is damaged: a sparse matrix of another shape")
    data = reader.read(entry["data"])
    if "row" in entry:
        return kind((data, (reader.read(entry["row"]), reader.read(entry["column"]))), shape=shape)
    indptr = reader.read(entry["indptr"])
    if len(indptr) != shape[0 if "csr" in kind.__name__ else 1] + 1:
        raise Refused("it is damaged: a sparse matrix of another shape")
    matrix = kind((data, reader.read(entry["indices"]), indptr), shape=shape)
    matrix.check_format(full_check=True)  # compiled code trusts indices
    return matrix


# ---------------------------------------------------------------------------------------------------------- tensors


def _write_tensor(writer: Writer, tensor: Any) -> Any:
    if tensor.layout == torch.strided:
        return writer.tensor(tensor)
    if tensor.layout == torch.sparse_csr:
        parts = {"start": tensor.crow_indices(), "columns": tensor.col_indices(), "values": tensor.values()}
    elif tensor.layout == torch.sparse_coo:
        entries = tensor.coalesce()
        parts = {"indices": entries.indices(), "values": entries.values()}
    else:
        raise Refused(f"it is a tensor of layout {tensor.layout}")
    return {"shape": list(tensor.shape), **{name: writer.write(part, name) for name, part in parts.items()}}


def _read_tensor(reader: Reader, entry: Any) -> Any:
    if "tensor" in entry:
        return reader.tensor(entry)
    names = ("start", "columns", "values") if "start" in entry else ("indices", "values")
    parts = [reader.read(entry[name]) for name in names]
    shape = tuple(entry["shape"])
    # PyTorch rejects the stride of an empty array; without entries nothing can be out of bounds.
    check = parts[-1].numel() > 0
    if len(parts) == 3:
        if len(shape) != 2 or len(parts[0]) != shape[0] + 1:
            raise Refused("it is damaged: a sparse tensor of another shape")
        start, columns, values = parts
        return torch.sparse_csr_tensor(start, columns, values, shape, check_invariants=check)
    indices, values = parts
    return torch.sparse_coo_tensor(indices, values, shape, check_invariants=check, is_coalesced=True)


# ------------------------------------------------------------------------------------------------------- generators


def _write_generator(writer: Writer, generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        if generator.device.type != "cpu":
            raise Refused(f"it is a generator on {generator.device}")
        return {"of": "torch", "state": writer.write(generator.get_state(), "state")}
    legacy = isinstance(generator, np.random.RandomState)
    state = generator.get_state(legacy=False) if legacy else generator.bit_generator.state
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise Refused(f"it draws from {state['bit_generator']}")
    return {"of": "RandomState" if legacy else "Generator", "state": writer.write(state, "state")}


def _read_generator(reader: Reader, entry: Any) -> Any:
    state = reader.read(entry["state"])
    if entry["of"] == "torch":
        return torch.Generator().set_state(state)
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise Refused("it is damaged: a generator of another kind")
    bits = getattr(np.random, state["bit_generator"])()
    if entry["of"] == "RandomState":
        random = np.random.RandomState(bits)
        random.set_state(state)
        return random
    bits.state = state
    return np.random.Generator(bits)


def _is_exactly(*kinds: type) -> Any:
    return lambda value: type(value) in kinds


VALUE_KINDS = (
    Kind("number", _is_exactly(float), _write_number, _read_number),
    Kind("scalar", lambda value: isinstance(value, np.generic), _write_scalar, _read_scalar),
    Kind("tuple", _is_exactly(tuple), _write_items, lambda reader, entry: tuple(_read_items(reader, entry))),
    Kind("set", _is_exactly(set), _write_items, lambda reader, entry: set(_read_items(reader, entry))),
    Kind("frozenset", _is_exactly(frozenset), _write_items, lambda r, entry: frozenset(_read_items(r, entry))),
    Kind("dict", _is_exactly(dict), _write_pairs, _read_pairs),
    Kind("range", _is_exactly(range), _write_bounds, lambda reader, entry: range(*_read_items(reader, entry))),
    Kind("slice", _is_exactly(slice), _write_bounds, lambda reader, entry: slice(*_read_items(reader, entry))),
    Kind(
        "path",
        lambda value: isinstance(value, PurePath),
        lambda writer, value: {"path": str(value)},
        lambda reader, entry: Path(_word(entry["path"])),
    ),
    Kind(
        "device",
        _is_exactly(torch.device),
        lambda writer, value: {"device": str(value)},
        lambda reader, entry: torch.device(_word(entry["device"])),
    ),
    Kind("array", _is_exactly(np.ndarray, np.memmap), _write_array, _read_array),
    Kind("masked", _is_exactly(np.ma.MaskedArray), _write_masked, _read_masked),
    Kind("sparse", _is_exactly(*_SPARSE.values()), _write_sparse, _read_sparse),
    Kind("tensor", _is_exactly(torch.Tensor), _write_tensor, _read_tensor),
    Kind(
        "generator",
        lambda value: isinstance(value, np.random.RandomState | np.random.Generator | torch.Generator),
        _write_generator,
        _read_generator,
        shared=True,
    ),
)
