"""`suspend` and `resume`: an operator's word on who is read at all; it stands until the other is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.commands.asking import ask, new_wish, refuse_others, require_numbers
from producer.domain.wish import SUSPEND
from producer.errors import SettingsError
from producer.trekkpliktige_list import TrekkpliktigeList

if TYPE_CHECKING:
    from producer.commands.output import Output
    from producer.settings import Settings

ALL = "all"


def change_suspension(settings: Settings, output: Output, kind: str, trekkpliktige: list[str]) -> None:
    """Suspend or resume those named; `all` are all of the settings. Raises `FatalError` unless done for every one."""
    wanted = _named(settings, output, trekkpliktige)
    answers = ask(settings, output, new_wish(kind), wanted)
    word = "suspended" if kind == SUSPEND else "resumed"
    if output.as_json:
        output.json({name: {"outcome": each.outcome, "detail": each.detail} for name, each in sorted(answers.items())})
    else:
        output.line(f"{sum(each.outcome == 'done' for each in answers.values())} trekkpliktige {word}")
    refuse_others(answers)


def _named(settings: Settings, output: Output, trekkpliktige: list[str]) -> set[str]:
    if not trekkpliktige:
        raise SettingsError([f"--trekkpliktig: give an organisation number, several times if you like, or {ALL}"])
    require_numbers(name for name in trekkpliktige if name != ALL)
    if ALL not in trekkpliktige:
        return set(trekkpliktige)
    return {each.organisasjonsnummer for each in TrekkpliktigeList(settings, output.note).current()}
