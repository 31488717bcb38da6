"""A service's entry in the spec: each value with its place, and what a person must decide about it."""

import re

from kiwari_ci.adopt import words
from kiwari_ci.adopt.draft import Table
from kiwari_ci.adopt.facts import Composed, Facts
from kiwari_ci.adopt.images import Image
from kiwari_ci.adopt.services import Found
from kiwari_ci.adopt.settings import variables
from kiwari_ci.adopt.words import Fact
from kiwari_ci.source import Loc
from kiwari_ci.texts import File, Folder, Pattern, Script, UrlPath, Version

_IS_FILE, _IS_FOLDER, _IS_PATTERN = words.fits(File), words.fits(Folder), words.fits(Pattern)
_IS_PATH, _IS_SCRIPT, _IS_VERSION = words.fits(UrlPath), words.fits(Script), words.fits(Version)


def service(made: Composed, facts: Facts, found: Found, image: str) -> Table:
    """One service."""
    here: Loc = ("services", found.name)
    table = Table()
    if image:
        table.put("image", image, found.reference.where if found.reference else "")
    _paths(made, here, table, found)
    _build(table, found.name, found.image)
    _test(made, here, table, found)
    port, health = found.port, _health(facts, found)
    if port:
        others = [f"{fact.value} in {fact.where}" for fact in found.ports[1:] if not fact.guess]
        table.put("port", port.value, note_of(port) + (f"; {' and '.join(others[:3])}" if others else ""))
    else:
        table.put("port", 8080, "could not tell: nothing says where it listens; write: port: N")
    if not port or port.guess:
        made.decide((*here, "port"), f"where {found.name} listens" + (f": {port.value} is a guess" if port else ""))
    if health and _IS_PATH(health.value):
        table.put("health", {"path": health.value}, note_of(health))
    else:
        table.put("health", {"path": "/health"}, "could not tell: nothing asks it; write: health: {path: /…}")
    if not health or health.guess:
        made.decide(
            (*here, "health"),
            f"which path of {found.name} answers 200 when it is well"
            + (f": {health.value} is a guess" if health else ""),
        )
    if found.language.websocket:
        table.put("websocket", True, note_of(found.language.websocket))
    _env(facts, table, found)
    return table


def _paths(made: Composed, here: Loc, table: Table, found: Found) -> None:
    patterns = [fact for fact in found.image.sources if _IS_PATTERN(fact.value)] or [
        Fact("**", found.image.dockerfile, guess=True)
    ]
    unknown = patterns[0].guess and patterns[0].value == "**"
    note = (
        f"could not tell what {found.image.dockerfile} copies"
        if unknown
        else _places([fact.where for fact in patterns])
    )
    table.put("paths", [fact.value for fact in patterns], note)
    if unknown:
        made.decide((*here, "paths"), f"every change builds {found.name}: {note}; name its folders where you can")
    elif patterns[0].value == "**":
        made.decide(
            (*here, "paths"),
            f"every change builds {found.name}: {patterns[0].where} copies the whole repository",
        )


def _build(table: Table, name: str, image: Image) -> None:
    build = {"context": image.context.value} if image.context.value != "." else {}
    if image.dockerfile != f"{name}/Dockerfile":
        build["dockerfile"] = image.dockerfile
    note = image.by or f"{image.dockerfile}; the context is a guess from what it copies"
    if build:
        table.put("build", build, note)


def _test(made: Composed, here: Loc, table: Table, found: Found) -> None:
    test, known = found.test, found.language
    lines, folder, where, setup = known.test, known.folder, known.where, known.setup
    if test and not test.needs:
        lines, folder, where, setup = test.lines, test.folder, test.where, test.setup or known.setup
    if test and test.needs:
        table.above.append(f"could not tell how to test it: {test.where} needs {', '.join(test.needs)} beside it")
        made.decide(
            here,
            f"the tests of {found.name} need {', '.join(test.needs)} beside them ({test.where}); the spec has no such",
        )
        return
    script = "\n".join(line.rstrip() for line in lines).strip()
    script += "\n" if "\n" in script else ""
    if not script or not _IS_SCRIPT(script) or "${{" in script:
        inside = f"working_directory: {known.home}, " if known.home != "." else ""
        table.above.append(f"could not tell how to test it; write: test: {{{inside}run: …}}")
        made.decide(here, f"{found.name} is built without a test")
        return
    table["test"] = made_test = Table(note="" if test else f"a guess from {where}")
    if setup and (_IS_FILE(setup[2]) if setup[1] == "version_file" else _IS_VERSION(setup[2])):
        made_test.put("setup", {setup[0]: {setup[1]: setup[2]} if setup[1] == "version_file" else setup[2]})
    if folder != "." and _IS_FOLDER(folder):
        made_test.put("working_directory", folder)
    made_test.put("run", script, where if test else "")


def _health(facts: Facts, found: Found) -> Fact | None:
    """What asks it today: its own check, a workflow's curl, and then a guess."""
    health = found.health
    if health and not health.guess:
        return health
    own = {fact.value for (_, service), fact in facts.domains.items() if service == found.name}
    for place in facts.places:
        for fact in place.urls:
            host, slash, path = re.sub(r"^https?://", "", str(fact.value)).partition("/")
            if host in own and slash and re.search(r"health|ping|status|ready|live|up$", path):
                return Fact(f"/{path}", fact.where)
    return health


def _env(facts: Facts, table: Table, found: Found) -> None:
    env = Table()
    for key, variable in variables(facts.repository, found, facts.services, facts.server).items():
        domain = isinstance(variable.value, dict) and "domain" in variable.value
        public = all((place.name, found.name) in facts.domains for place in facts.places)
        if not domain or public:
            env.put(key, variable.value, variable.note)
        else:
            env.put(
                key, {"secret": True}, f"{variable.note}, its own address: not every environment has a domain for it"
            )
    if env:
        table["env"] = env


def _places(places: list[str]) -> str:
    """Several places, each file named once: Dockerfile:3, 7."""
    found: dict[str, list[str]] = {}
    for place in places:
        file, _, line = place.rpartition(":") if place.rpartition(":")[2].isdecimal() else (place, "", "")
        found.setdefault(file, []).append(line)
    return ", ".join(
        ":".join(filter(None, (file, ", ".join(dict.fromkeys(filter(None, lines_)))))) for file, lines_ in found.items()
    )


def note_of(fact: Fact) -> str:
    """The place of a fact, as a comment has it."""
    return f"a guess from {fact.where}" if fact.guess else fact.where
