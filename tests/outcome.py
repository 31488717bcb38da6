"""What a program that deploys answers: the host program and the rollout program end in the same way."""

import dataclasses
import json
from typing import Any


@dataclasses.dataclass
class Outcome:
    """How a request ended, and what it printed."""

    code: int
    text: str

    @property
    def result(self) -> Any:
        """The last line of a deploy or a rollback."""
        return json.loads(self.text.splitlines()[-1])

    @property
    def results(self) -> dict[str, str]:
        """The result of each service."""
        return {entry["service"]: entry["result"] for entry in self.result["services"]}

    def says(self, words: str) -> bool:
        """Whether it printed these words."""
        return words in self.text
