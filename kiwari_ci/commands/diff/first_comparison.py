"""Arranges the first comparison, of a pipeline that kiwari-ci did not generate, by what a person does and when."""

from collections.abc import Iterator
from dataclasses import dataclass

from kiwari_ci.commands.diff.change import EVERY_ADOPTION, HANDWRITTEN_FILES, PipelineChange, Stage
from kiwari_ci.problems import join_with_limit

PART_TITLES: dict[Stage, str] = {
    "before": "Before the merge, by hand",
    "after": "After the merge, by hand",
    "change": "What else changes",
}
DANGER_NOTE = (
    "Look first at the lines with !: these changes can lose data or requests. "
    "deploy/RUNBOOK.md has the order and the commands."
)
_MAX_ITEMS = 20


@dataclass
class JoinedLine:
    """One line: which environments, services or files it concerns, its words, and where it stands."""

    subjects: dict[str, None]
    words: str
    is_dangerous: bool
    risky: bool
    where: str

    @property
    def subject(self) -> str:
        """All that the line concerns."""
        return ", ".join(self.subjects)


def arrange_lines(changes: tuple[PipelineChange, ...]) -> Iterator[tuple[Stage, list[JoinedLine]]]:
    """The lines of each part that has any: dangerous ones first, then those that ask for care."""
    for stage in PART_TITLES:
        part_changes = [change for change in changes if change.stage == stage]
        lines = [*_join_subjects(part_changes), *_join_summaries(part_changes)]
        if lines:
            yield stage, sorted(lines, key=lambda line: (not line.is_dangerous, not line.risky))


def _join_subjects(changes: list[PipelineChange]) -> Iterator[JoinedLine]:
    """One line for the same words about several subjects."""
    lines: dict[str, JoinedLine] = {}
    for change in changes:
        if change.summary:
            continue
        line = lines.setdefault(change.words, JoinedLine({}, change.words, False, False, change.where))
        if change.subject != HANDWRITTEN_FILES:
            line.subjects[f"{change.subject} ({change.part})" if change.part else change.subject] = None
        line.is_dangerous = line.is_dangerous or change.is_dangerous
        line.risky = line.risky or change.risky
    yield from lines.values()


def _join_summaries(changes: list[PipelineChange]) -> Iterator[JoinedLine]:
    """One line for each summary, with the items of all changes; what every adoption has in common comes last."""
    items: dict[str, dict[str, None]] = {}
    for change in changes:
        if change.summary:
            items.setdefault(change.summary, {})[change.item] = None
    for summary in sorted(items, key=lambda text: text == EVERY_ADOPTION):
        if summary == EVERY_ADOPTION:
            items_text = "; ".join(items[summary])
        else:
            items_text = join_with_limit(items[summary], _MAX_ITEMS)
        yield JoinedLine({}, f"{summary}: {items_text}", False, False, "")
