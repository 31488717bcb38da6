"""The scripts and Makefile targets of the repository that the steps of a job run, as if their text stood in the job."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kiwari_ci.readers.called_scripts import CalledScript, CallPlace, ScriptFinder, enter_server
from kiwari_ci.readers.workflow import get_action_name
from kiwari_ci.readers.yaml_document import YamlMapping

_MAX_VARIABLE_LENGTH = 300  # characters of a variable that a script gets


@dataclass(frozen=True)
class ScriptOfStep:
    """A script that a step runs, itself or through another one."""

    step: YamlMapping
    called: CalledScript

    @property
    def is_on_server(self) -> bool:
        """Whether its commands run on a server."""
        return self.called.place.is_remote

    def has_place(self, where: str) -> bool:
        """Whether a place is in its file."""
        return where.rpartition(":")[0] == self.called.path

    def where(self, position: int) -> str:
        """The place of a character of its text."""
        return self.called.where(1 + self.called.text.count("\n", 0, position))

    def as_step(self) -> YamlMapping:
        """The script as a step that has its text, with the variables of the step that runs it."""
        called = self.called
        step = YamlMapping(called.path, called.first_line)
        if "env" in self.step:
            step.put("env", self.step["env"], called.first_line)
        # The text of a block begins on the line behind its key.
        is_block = "\n" in called.text.strip()
        step.put("run", called.text, called.first_line - 1 if is_block else called.first_line)
        return step


class JobScripts:
    """Finds the scripts of the steps of one job."""

    def __init__(
        self, finder: ScriptFinder, substitute: Callable[[str], str], get_folder: Callable[[YamlMapping], str]
    ) -> None:
        self.finder = finder
        self.substitute = substitute
        self.get_folder = get_folder

    def iter_scripts(
        self, step: YamlMapping, variables: dict[str, str], *, is_own_machine: bool
    ) -> Iterator[ScriptOfStep]:
        """The scripts that a step runs on its runner, or on the server by `ssh` or an action."""
        known = {name: value for name, value in variables.items() if len(value) < _MAX_VARIABLE_LENGTH}
        run_place = CallPlace(step.where("run"), self.get_folder(step), is_remote=is_own_machine, variables=known)
        inputs = step.get_mapping("with")
        scripts = [(step.get_text("run"), run_place)]
        if "ssh" in get_action_name(step.get_text("uses")).lower():
            scripts.append((inputs.get_text("script"), enter_server(CallPlace(inputs.where("script")))))
        for text, place in scripts:
            for called in self.finder.iter_scripts(self.substitute(text), place) if text else ():
                yield ScriptOfStep(step, called)
