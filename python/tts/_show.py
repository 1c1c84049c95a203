"""How results look: as text in a terminal, as HTML in a notebook."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._tts import Answer

_ROWS = 8
"""Answers of a vote that are shown; the others are counted."""


def answer_text(answer: Answer) -> str:
    """The answer and the vote, one line an answer."""
    votes = answer.votes
    lines = [f"<tts.Answer {answer.answer!r}: {_cost(answer)}>"]
    width = max((len(v.answer) for v in votes[:_ROWS]), default=0)
    lines += [f"  {v.answer:<{width}}  {v.share:6.1%}  {_plural(v.traces, 'trace')}" for v in votes[:_ROWS]]
    if len(votes) > _ROWS:
        lines.append(f"  and {_plural(len(votes) - _ROWS, 'more answer')}")
    return "\n".join(lines)


def answer_html(answer: Answer) -> str:
    """The answer and the vote, a bar an answer."""
    from html import escape

    head = "no answer" if answer.answer is None else escape(answer.answer)
    mark = {True: " ✓", False: f" (right: {escape(answer.gold or '')})", None: ""}[answer.correct]
    rows = "".join(
        f"<tr><td style='text-align:left'>{escape(v.answer)}</td>"
        f"<td style='width:12em;text-align:left'><div style='background:#4c78a8;height:.8em;"
        f"width:{100 * v.share:.1f}%'></div></td>"
        f"<td>{v.share:.1%}</td><td>{_plural(v.traces, 'trace')}</td></tr>"
        for v in answer.votes[:_ROWS]
    )
    more = len(answer.votes) - _ROWS
    rest = f"<div>and {_plural(more, 'more answer')}</div>" if more > 0 else ""
    warnings = "".join(f"<div><small>{escape(w)}</small></div>" for w in answer.warnings)
    return (
        f"<div><strong>{head}</strong>{mark} <small>{escape(_cost(answer))}</small>"
        f"<table>{rows}</table>{rest}{warnings}</div>"
    )


def table_html(names: Iterable[str], rows: Sequence[Sequence[object]]) -> str:
    """A plain table."""
    from html import escape

    head = "".join(f"<th>{escape(str(name))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell_text(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cell_text(value: object) -> str:
    """A value as a table shows it."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _cost(answer: Answer) -> str:
    cost = []
    if answer.tokens is not None and answer.traces is not None:
        cost.append(f"{answer.tokens:,} tokens in {_plural(answer.traces, 'trace')}")
    if answer.seconds:
        cost.append(f"{answer.seconds:.2f} s")
    if answer.strategy:
        cost.append(answer.strategy)
    return ", ".join(cost)


def _plural(n: int, word: str) -> str:
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"
