"""Models with their settings, sets of problems, and what came of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from . import _tts
from ._tts import Answer, Solving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    import pandas

    from ._strategy import Strategy

    AnyStrategy: TypeAlias = str | Strategy | type[Strategy]
    Dataset: TypeAlias = str | os.PathLike[str] | Iterable[Mapping[str, Any]]

STRATEGIES = ("majority", "adaptive", "adaptive-consistency", "deepconf-low", "deepconf-high")
"""What a sweep decides with where nothing else is named."""


class Solver:
    """A model, here or elsewhere, and the settings that questions are answered with. Made by `tts.open` and
    `tts.remote`. Questions that are asked from several threads or tasks share one batch."""

    def __init__(self, inner: _tts.Solver) -> None:
        self._inner = inner

    def solve(self, question: str) -> Answer:
        """Answers a question. Other threads of Python run meanwhile; Ctrl-C cancels the traces and raises
        KeyboardInterrupt. Raises `Error` when the run cannot go on, or what a strategy in Python raised."""
        return self._inner.solve(question)

    async def solve_async(self, question: str) -> Answer:
        """The same for asyncio. Cancelling the task cancels the traces."""
        return await self._inner.solve_async(question)

    def stream(self, question: str) -> Solving:
        """Begins to answer a question: iterate over the result for its events (``for`` or ``async for``), ask its
        ``result()``, or await it."""
        return self._inner.stream(question)

    def evaluate(
        self,
        dataset: Dataset,
        *,
        run: str | os.PathLike[str] | None = None,
        limit: int | None = None,
        on_answer: Callable[[Answer], object] | None = None,
    ) -> Evaluation:
        """Solves a set of problems, several side by side.

        `dataset` is a file (JSONL, JSON, CSV, parquet), a task of ``tts list tasks``, or an iterable of dicts (or a
        DataFrame) with ``problem`` and, to be graded, ``answer`` and ``id``. Everything is kept in the folder
        `run`, where one is named, and the same call goes on there after a kill. `on_answer` is called with each
        answer in the order of the problems."""
        name, lines = _named(dataset)
        return Evaluation(self._inner.evaluate_set(name, lines, run, limit, on_answer))

    def sweep(
        self,
        dataset: Dataset,
        *,
        strategies: Sequence[AnyStrategy] = STRATEGIES,
        traces: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
        slots: Sequence[int | str | None] = (None,),
        resamples: int | None = 64,
        seed: int = 0,
        run: str | os.PathLike[str] | None = None,
        limit: int | None = None,
    ) -> Sweep:
        """Records complete traces of a set (see `evaluate`) and decides over them as `tts.sweep` does: accuracy
        against tokens, every strategy at every budget. `run` keeps the recording and what was decided; without it
        both go when the sweep is done."""
        import tempfile

        name, lines = _named(dataset)
        with tempfile.TemporaryDirectory(prefix="tts-sweep-") as scratch:
            folder = run or os.path.join(scratch, "run")
            self._inner.record_set(name, lines, folder, limit, max(traces, default=1))
            return sweep(
                folder, strategies=strategies, traces=traces, slots=slots, resamples=resamples, seed=seed
            )

    def __repr__(self) -> str:
        return repr(self._inner)


def open(
    model: str | os.PathLike[str] | None = None,
    *,
    strategy: AnyStrategy | None = None,
    traces: int | None = None,
    slots: int | str | None = None,
    max_tokens: int | None = None,
    max_total_tokens: int | None = None,
    time_limit: float | None = None,
    seed: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    thinking_budget: int | None = None,
    system: str | None = None,
    instruction: str | None = None,
    prompt_template: str | None = None,
    loop_stop: bool | None = None,
    max_batch: int | None = None,
    memory: int | None = None,
    threads: int | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    device: str | None = None,
    on_progress: Callable[[str, int, int | None], object] | None = None,
) -> Solver:
    """Opens a model in this process.

    `model` is a folder, a ``.gguf`` file, ``org/name`` on the Hugging Face hub (downloaded once), or None for the
    small one that the package carries. `strategy` is a name of ``tts list strategies``, a preset file,
    ``exec:COMMAND``, or a `Strategy`; `traces` (64) may be launched for a question, `slots` of them are in flight
    at once. `on_progress` is called with each file that is downloaded, its bytes so far and in all, where that is known;
    without it a line a file goes to stderr. `device` is where the model runs: ``cpu`` (the default), ``cuda``, ``cuda:N``
    or ``auto``. The others are the flags of ``tts solve --help`` under the same names: what is not set is what the
    model recommends, or the default. Raises `Error` for what cannot be opened or is out of range."""
    given = {k: v for k, v in locals().items() if k != "model"}
    given["on_progress"] = on_progress or _Downloads()
    return Solver(_tts.Solver.of_model("bundled" if model is None else os.fspath(model), **given))


def remote(
    urls: str | Iterable[str],
    *,
    backend_model: str | None = None,
    backend_in_flight: int | None = None,
    strategy: AnyStrategy | None = None,
    traces: int | None = None,
    slots: int | str | None = None,
    max_tokens: int | None = None,
    max_total_tokens: int | None = None,
    time_limit: float | None = None,
    seed: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    system: str | None = None,
    instruction: str | None = None,
    prompt_template: str | None = None,
) -> Solver:
    """Takes traces from OpenAI-compatible servers of one model, each named by its address as
    ``http://127.0.0.1:8000/v1``; they are spread over all of them.

    `backend_model` is the model's name there, where they have several; `backend_in_flight` (64) bounds the requests
    to each address. An API key is read from the variable TTS_BACKEND_API_KEY or OPENAI_API_KEY. The other settings
    are those of `open`."""
    given = {k: v for k, v in locals().items() if k != "urls"}
    return Solver(_tts.Solver.of_engines([urls] if isinstance(urls, str) else list(urls), **given))


class _Downloads:
    """Says of each file that is downloaded that it is."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, file: str, done: int, total: int | None) -> None:
        import sys

        if file not in self._said:
            self._said.add(file)
            size = "" if total is None else f" ({total / 2**20:,.1f} MiB)"
            print(f"tts: fetching {file}{size}", file=sys.stderr, flush=True)


class Evaluation(Sequence[Answer]):
    """The answers to a set of problems, in the set's order."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        """One for each problem."""

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the problems whose right answer is known; None where none is."""
        graded = self._graded()
        return sum(graded) / len(graded) if graded else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval of the accuracy, at 95%."""
        graded = self._graded()
        return _tts.wilson(sum(graded), len(graded)) if graded else None

    @property
    def tokens(self) -> int:
        """Tokens that were generated for all problems."""
        return sum(a.tokens or 0 for a in self.answers)

    def to_pandas(self) -> pandas.DataFrame:
        """As a DataFrame, a row a problem."""
        import pandas

        names = ["problem_id", "answer", "gold", "correct", "margin", "tokens", "traces", "seconds", "strategy"]
        return pandas.DataFrame([{name: getattr(a, name) for name in names} for a in self.answers], columns=names)

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, i: Any) -> Any:
        return self.answers[i]

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)

    def __repr__(self) -> str:
        return f"<tts.Evaluation: {self._summary()}>"

    def _repr_html_(self) -> str:
        from ._show import table_html

        rows = [[a.problem_id, a.answer, a.gold, a.correct, a.tokens, a.traces] for a in self.answers]
        names = ["problem", "answer", "gold", "right", "tokens", "traces"]
        return f"<div>{self._summary()}</div>" + table_html(names, rows)

    def _graded(self) -> list[bool]:
        return [bool(a.correct) for a in self.answers if a.correct is not None]

    def _summary(self) -> str:
        words = [f"{len(self)} problems"]
        if self.accuracy is not None and self.interval is not None:
            low, high = self.interval
            words.append(f"{self.accuracy:.1%} right [{low:.1%} to {high:.1%}]")
        return ", ".join([*words, f"{self.tokens:,} tokens"])


class Sweep:
    """Accuracy against tokens: a row for each strategy, budget and number of slots."""

    def __init__(self, rows: list[dict[str, Any]], pass_at: dict[int, float], notes: list[str]) -> None:
        self.rows = rows
        """As ``tts sweep --json`` prints them: `accuracy` with its intervals over other problems and other traces,
        `tokens` and `ticks` a problem, `of_majority` and `against_majority` where majority was swept too."""
        self.pass_at = pass_at
        """The chance that any of k traces is right, by k."""
        self.notes = notes
        """Sentences about what the recording does not hold."""

    def to_pandas(self) -> pandas.DataFrame:
        """As a DataFrame with plain columns: ``accuracy_low`` and ``accuracy_high`` are its interval over other
        problems."""
        import pandas

        return pandas.DataFrame([self._flat(row) for row in self.rows])

    @staticmethod
    def _flat(row: dict[str, Any]) -> dict[str, Any]:
        accuracy = row["accuracy"] or {}
        interval = accuracy.get("problems") or {}
        against = (row["against_majority"] or {}).get("difference") or {}
        return {
            "strategy": row["strategy"],
            "traces": row["budget"],
            "slots": "auto" if row["slots"] is None else str(row["slots"]),
            "accuracy": accuracy.get("mean"),
            "accuracy_low": interval.get("low"),
            "accuracy_high": interval.get("high"),
            "tokens": row["tokens"],
            "ticks": row["ticks"],
            "of_majority": row["of_majority"],
            "against_majority": against.get("mean"),
        }

    def __repr__(self) -> str:
        lines = [f"<tts.Sweep of {len(self.rows)} rows>"]
        for row in map(self._flat, self.rows):
            right = "" if row["accuracy"] is None else f"{row['accuracy']:7.1%}"
            lines.append(f"  {row['strategy']:<22} {row['traces']:>6} traces {row['tokens']:>11,.0f} tokens {right}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from ._show import table_html

        rows = [self._flat(row) for row in self.rows]
        return table_html(rows[0] if rows else [], [list(row.values()) for row in rows])


def replay(
    path: str | os.PathLike[str],
    *,
    strategy: AnyStrategy | None = None,
    traces: int | None = None,
    slots: int | str | None = None,
    gold: Mapping[str, str] | None = None,
) -> Evaluation:
    """Decides a recording again, without a model: a run folder or a .jsonl file of traces. What is not named is as
    the recording has it; `gold` holds right answers by problem, over those that the recording names."""
    answers = _tts.replay(path, strategy, traces, slots, dict(gold or {}))
    return Evaluation(answers)


def sweep(
    recording: str | os.PathLike[str],
    *,
    strategies: Sequence[AnyStrategy] = STRATEGIES,
    traces: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    slots: Sequence[int | str | None] = (None,),
    resamples: int | None = 64,
    seed: int = 0,
    run: str | os.PathLike[str] | None = None,
) -> Sweep:
    """Decides over a recording of complete traces with every strategy at every budget of `traces`, each time over
    `resamples` random orders of them, or once in the recorded order where that is None. Results are kept in `run`,
    or in the recording's own folder, where the same call goes on after a kill."""
    folder = run or (recording if os.path.isdir(recording) else f"{os.path.splitext(recording)[0]}-sweep")
    written = [None if s is None else str(s) for s in slots]
    rows, pass_at, notes = _tts.sweep(
        recording, folder, list(strategies), list(traces), written, (resamples, seed)
    )
    return Sweep(rows, {int(k): share for k, share in pass_at.items()}, notes)


def _named(dataset: Dataset) -> tuple[str, bytes | None]:
    """A set by name, or its problems as JSON lines."""
    import json

    if isinstance(dataset, (str, os.PathLike)):
        return os.fspath(dataset), None
    problems: Any = dataset.to_dict("records") if hasattr(dataset, "to_dict") else dataset
    return "the problems", "\n".join(json.dumps(dict(problem)) for problem in problems).encode()
