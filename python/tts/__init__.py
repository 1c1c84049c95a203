"""Test-time scaling: many reasoning traces of one question in one batch, stopped while they run and voted.

    >>> import tts
    >>> solver = tts.open()                 # the model that the package carries
    >>> str(solver.solve("Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20."))
    '20'

``tts.open`` and ``tts.remote`` give a `Solver`; `Solver.solve`, `Solver.stream` and `Solver.evaluate` ask it;
`Strategy` is what to derive a strategy of your own from; ``tts.replay`` and ``tts.sweep`` decide recordings again
without a model, and ``tts.load_run`` reads them as columns; ``tts.grade`` and ``tts.canonical`` compare answers.
"""

from ._solver import Evaluation, Solver, Sweep, open, remote, replay, sweep
from ._strategy import DONE, Strategy
from ._table import Run, Table, load_run
from ._tts import (
    Answer,
    Column,
    EndedTrace,
    Error,
    Event,
    Solving,
    Vote,
    __version__,
    canonical,
    extract,
    grade,
)

__all__ = [
    "DONE",
    "Answer",
    "Column",
    "EndedTrace",
    "Error",
    "Evaluation",
    "Event",
    "Run",
    "Solver",
    "Solving",
    "Strategy",
    "Sweep",
    "Table",
    "Vote",
    "__version__",
    "canonical",
    "extract",
    "grade",
    "load_run",
    "open",
    "remote",
    "replay",
    "sweep",
]
