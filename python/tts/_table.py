"""Recordings as columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from . import _tts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import pandas
    import pyarrow


class Lists(Sequence):
    """A column whose cells are lists of numbers: ``lists[i]`` is a view of those of row i, nothing is copied.
    `values` holds the numbers of all rows one after the other, and row i is at ``offsets[i]:offsets[i + 1]``."""

    def __init__(self, values: Any, offsets: Any) -> None:
        self.values = values
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        return self.values[int(self.offsets[i]) : int(self.offsets[i + 1])]

    def __repr__(self) -> str:
        return f"<{len(self)} lists of {len(self.values)} numbers>"


class Table(Mapping):
    """Columns of one length, by name. Numbers are NumPy arrays that lie where the recording was read to, or
    memoryviews of the same where NumPy is not installed; texts are lists; columns of lists are `Lists`. Numbers
    that are not known are NaN, texts None."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = dict(columns)

    def __getitem__(self, name: str) -> Any:
        column = self._columns[name]
        if isinstance(column, tuple):
            return Lists(*map(_view, column))
        return _view(column) if isinstance(column, _tts.Column) else column

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return next((len(self[name]) for name in self), 0)

    def to_pandas(self) -> pandas.DataFrame:
        """As a DataFrame; cells of lists are views."""
        import pandas

        columns = {name: self[name] for name in self}
        lists = {name: list(c) if isinstance(c, Lists) else c for name, c in columns.items()}
        return pandas.DataFrame(lists, copy=False)

    def to_arrow(self) -> pyarrow.Table:
        """As an Arrow table over the same memory; texts alone are copied."""
        import pyarrow

        numbers = {
            "I": pyarrow.uint32(),
            "q": pyarrow.int64(),
            "f": pyarrow.float32(),
            "d": pyarrow.float64(),
        }

        def array(column: Any) -> pyarrow.Array:
            if isinstance(column, tuple):
                values, offsets = map(array, column)
                return pyarrow.LargeListArray.from_arrays(offsets, values)
            if isinstance(column, _tts.Column):
                kind = numbers[memoryview(column).format]
                return pyarrow.Array.from_buffers(kind, len(column), [None, pyarrow.py_buffer(column)])
            booleans = any(isinstance(cell, bool) for cell in column)
            return pyarrow.array(column, pyarrow.bool_() if booleans else pyarrow.string())

        return pyarrow.table({name: array(column) for name, column in self._columns.items()})

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<tts.Table of {self.rows} rows: {', '.join(self)}>"

    def _repr_html_(self) -> str:
        from ._show import table_html

        shown = [name for name in self if not isinstance(self._columns[name], tuple)]
        columns = [self[name] for name in shown]
        rows = [[_short(column[i]) for column in columns] for i in range(min(self.rows, 10))]
        return table_html(shown, rows) + f"<div>{self.rows} rows; lists are not shown</div>"


class Run:
    """A recording: its traces and what was decided over them."""

    def __init__(self, path: str, traces: Table, decisions: Table, warnings: list[str]) -> None:
        self.path = path
        """Where it was read."""
        self.traces = traces
        """A row a trace. Columns of lists: ``token_ids``, ``logprobs``, ``confidence``, one number a token."""
        self.decisions = decisions
        """A row a decided problem, of every strategy that decided here, the newest of a problem last."""
        self.warnings = warnings
        """Sentences about what was passed over."""

    def __repr__(self) -> str:
        return f"<tts.Run {self.path!r}: {self.traces.rows} traces, {self.decisions.rows} decisions>"

    def _repr_html_(self) -> str:
        return self.decisions._repr_html_() if self.decisions.rows else self.traces._repr_html_()


def load_run(path: str | os.PathLike[str]) -> Run:
    """Reads a recording: a run folder (``--run``, `Solver.evaluate`), or a .jsonl file of traces, also one that
    was made elsewhere. Raises `Error` for a path that is no recording."""
    traces, decisions, warnings = _tts.read_run(path)
    return Run(os.fspath(path), Table(traces), Table(decisions), warnings)


def _view(column: _tts.Column) -> Any:
    try:
        import numpy
    except ImportError:
        return memoryview(column)
    return numpy.asarray(column)


def _short(cell: object) -> object:
    return cell[:57] + "..." if isinstance(cell, str) and len(cell) > 60 else cell
