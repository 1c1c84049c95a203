"""Strategies as Python classes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Final

    from ._tts import EndedTrace

DONE: Final = "done"
"""What `Strategy.finished` returns to decide the problem: what is in flight is cancelled."""


class Strategy:
    """Decides how many traces run, when one stops, when all stop, and which answer wins.

    Derive from it, override what should be decided otherwise, and give the class, or an object of it, wherever a
    strategy's name is taken: live (`tts.open`), over a recording (`tts.replay`) and in sweeps. Each problem is
    decided by a copy of its own (`copy.deepcopy`). As it stands it launches all traces and each has one vote.

    A strategy must be deterministic: no clock, no randomness. Then a replay decides as the live run did. An
    exception ends the run and comes out of `Solver.solve`.
    """

    name: ClassVar[str | None] = None
    """What it is called in results; the name of the class where None."""

    needs: ClassVar[tuple[str, ...]] = ()
    """What it cannot do without, of ``confidence``, ``logprob``, ``self_certainty`` and ``entropy``; checked before
    a token is spent. One that overrides `token` needs ``confidence`` unless it says otherwise."""

    window: ClassVar[int | None] = None
    """Tokens in a group of the scores ``tail``, ``bottom``, ``lowest_group`` and ``tail_entropy``."""

    def begin(self, traces: int, slots: int, max_tokens: int) -> int:
        """A new problem: how many traces to launch, at least 1. `traces` may be launched in all, `slots` of them
        are in flight at once, and each has at most `max_tokens` tokens."""
        return traces

    def token(self, trace: int, confidence: float, logprob: float) -> bool:
        """A token of a trace in flight: whether the trace is stopped here. `confidence` is in nats, higher is
        surer; `logprob` is that of the token drawn; NaN where the source of traces does not give them. Called for
        every token of every trace, and only where it is overridden."""
        return False

    def finished(self, trace: EndedTrace) -> int | str | None:
        """A trace ended: None to wait for the others, a number of traces to launch, or `DONE`."""
        return None

    def decide(self) -> dict[int, float] | None:
        """The traces that vote, each with its weight; the heaviest answer wins. Only traces that ended by
        themselves with an answer may vote. None gives each of those one vote."""
        return None


def describe(strategy: object) -> dict[str, Any]:
    """What the engine has to know of a strategy before it runs."""
    if isinstance(strategy, type) and issubclass(strategy, Strategy):
        strategy = strategy()
    if not isinstance(strategy, Strategy):
        raise TypeError(
            "a strategy is a name, a class derived from tts.Strategy or an object of one, "
            f"not {type(strategy).__name__}"
        )
    kind = type(strategy)
    reads_tokens = kind.token is not Strategy.token
    return {
        "prototype": strategy,
        "name": strategy.name or kind.__name__,
        "needs": list(strategy.needs or (["confidence"] if reads_tokens else [])),
        "window": strategy.window,
        "reads_tokens": reads_tokens,
        "place": f"{kind.__module__}.{kind.__qualname__}",
        "digest": _digest(strategy),
    }


def _digest(strategy: Strategy) -> str:
    """Of its classes' sources and its values: two results with the same digest were decided by the same rules."""
    import hashlib
    import inspect
    import uuid

    try:
        bases = [c for c in type(strategy).__mro__ if c not in (Strategy, object)]
        rules = [inspect.getsource(c) for c in bases]
    except (OSError, TypeError):
        # typed into an interpreter: nothing says that it is the one of before
        return uuid.uuid4().hex
    return hashlib.sha256(repr((rules, vars(strategy))).encode()).hexdigest()
