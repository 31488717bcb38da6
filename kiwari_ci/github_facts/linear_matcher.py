"""Patterns matched in time that grows with the text alone, however many stars they have.

A backtracking regular expression of `*a*a*a*a*b` takes hours for a long name. This one follows all ways at once, as
an automaton whose states are remembered.
"""

import re
from collections.abc import Sequence
from typing import Literal

from kiwari_ci.frozen import dataclass

MAX_FAST_WILDCARDS = 2  # of a pattern that an ordinary regular expression may match
MAX_REMEMBERED_STEPS = 20_000  # of one pattern

StepKind = Literal["one", "maybe", "repeat", "any", "folders", "paths", "below"]


@dataclass(frozen=True)
class MatchStep:
    """A part of a pattern over characters of a set, which is a regular expression of one character.

    one: exactly one. maybe: one or none. repeat: one or more. any: none or more. folders: nothing, or some
    text and `/`. paths: nothing, or any text, an empty one too, and `/`. below: nothing, or `/` and any text.
    """

    kind: StepKind
    characters: str = "."


class LinearMatcher:
    """A pattern, as `re.Pattern` where only whole texts are matched."""

    def __init__(self, steps: Sequence[MatchStep]) -> None:
        self._edges: list[list[tuple[re.Pattern[str], int]]] = [[]]
        self._free: list[list[int]] = [[]]
        last = 0
        for step in steps:
            last = self._append_step(last, step)
        self._last = last
        self._start = self._close({0})
        self._remembered: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def match(self, text: str) -> bool:
        """Whether the pattern matches the whole text."""
        states = self._start
        for character in text:
            if not states:
                return False
            states = self._advance(states, character)
        return self._last in states

    def _add_state(self) -> int:
        self._edges.append([])
        self._free.append([])
        return len(self._edges) - 1

    def _append_step(self, start: int, step: MatchStep) -> int:
        characters = re.compile(step.characters, re.DOTALL)
        slash, anything = re.compile("/"), re.compile(".", re.DOTALL)
        if step.kind == "any":
            loop = self._add_state()
            self._free[start].append(loop)
            self._edges[loop].append((characters, loop))
            return loop
        end = self._add_state()
        if step.kind in ("folders", "paths"):
            inside = self._add_state()
            self._free[start].append(end)
            self._edges[start].append((anything, inside))
            if step.kind == "paths":
                self._edges[start].append((slash, end))
            self._edges[inside] += [(anything, inside), (slash, end)]
        elif step.kind == "below":
            inside = self._add_state()
            self._free[start].append(end)
            self._edges[start].append((slash, inside))
            self._edges[inside].append((anything, inside))
            self._free[inside].append(end)
        else:
            self._edges[start].append((characters, end))
            if step.kind == "maybe":
                self._free[start].append(end)
            elif step.kind == "repeat":
                self._edges[end].append((characters, end))
        return end

    def _close(self, states: set[int]) -> frozenset[int]:
        """The states and all that can be reached from them without a character."""
        waiting = list(states)
        while waiting:
            for state in self._free[waiting.pop()]:
                if state not in states:
                    states.add(state)
                    waiting.append(state)
        return frozenset(states)

    def _advance(self, states: frozenset[int], character: str) -> frozenset[int]:
        known = self._remembered.get((states, character))
        if known is None:
            edges = (edge for state in states for edge in self._edges[state])
            known = self._close({target for characters, target in edges if characters.fullmatch(character)})
            if len(self._remembered) < MAX_REMEMBERED_STEPS:
                self._remembered[states, character] = known
        return known
