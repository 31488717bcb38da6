"""What a script calls, read from its text: the commands with their words, variables put in where the script sets them.

Best effort, never run: loops give each of their values, a here-document is the last word of its command.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import product

MOST = 2_000  # commands of a script
LONGEST = 100_000  # characters of a script
LONGEST_VALUE = 1_000  # characters of a variable: one made of others grows no further
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?[-?][^}]*)?\}|(\w+))")
_ASSIGNMENT = re.compile(r"(?:export\s+|local\s+|readonly\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL)
_COMPUTED = re.compile(r"(?:export\s+|local\s+|readonly\s+)?\w+=\"?\$\(")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_BEFORE = {"if", "then", "else", "elif", "do", "while", "until", "!", "{", "(", "sudo", "time", "exec", "eval", "nohup"}
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|['"\\])+""", re.DOTALL)

Variables = Mapping[str, tuple[str, ...]]


def commands(script: str, given: Variables | None = None) -> list[list[str]]:
    """The commands of a script, in order, each as its words; one with a variable of several values, once for each."""
    known: dict[str, tuple[str, ...]] = dict(given or {})
    found: list[list[str]] = []
    for text in _pieces(script[:LONGEST]):
        if _COMPUTED.match(text):
            continue
        words = _WORD.findall(text)
        while words and words[0] in _BEFORE:
            words = words[1:]
        if words[:1] == ["for"] and words[2:3] == ["in"]:
            known[words[1]] = tuple(plain for word in words[3:] for plain in _values(word, known))[:20]
            continue
        while words and (set_here := _ASSIGNMENT.fullmatch(words[0])):
            known[set_here[1]] = tuple(value[:LONGEST_VALUE] for value in _values(set_here[2][:LONGEST_VALUE], known))
            words = words[1:]
        if words:
            used = {name for word in words for name in _names(word)} & known.keys()
            found += ([_plain(word, each) for word in words] for each in _choices(used, known))
        if len(found) > MOST:
            break
    return found[:MOST]


def _values(word: str, known: Variables) -> Iterator[str]:
    used = set(_names(word)) & known.keys()
    for each in _choices(used, known):
        yield _plain(word, each)


def _names(word: str) -> list[str]:
    return [braced or bare for braced, bare in _VARIABLE.findall(word)]


def _choices(used: set[str], known: Variables) -> list[dict[str, str]]:
    names = sorted(used)
    total = 1
    for name in names:
        total *= max(1, len(known[name]))
    if total > 50:
        return [{}]
    return [dict(zip(names, values, strict=True)) for values in product(*(known[name] for name in names))]


def _plain(word: str, values: Mapping[str, str]) -> str:
    """A word without its quotes, its variables replaced; one that nobody set stays as it is written."""
    if len(word) > 1 and word[0] == word[-1] == "'":
        return word[1:-1]
    filled = _VARIABLE.sub(lambda found: values.get(found[1] or found[2], found[0]), word)
    return re.sub(r"\\\n", " ", filled).replace('"', "").replace("'", "") if "\n" not in word else filled.strip("'\"")


def _pieces(script: str) -> Iterator[str]:
    """The script cut at line ends, `;`, `&` and `|` that no quote or bracket holds."""
    lines = iter(script.replace("\r\n", "\n").replace("\\\n", " ").split("\n"))
    pending = ""
    for line in lines:
        text = f"{pending}\n{line}" if pending else line
        if _open(text) and len(text) < 20_000 and text.count("\n") < 300:
            pending = text
            continue
        pending = ""
        body = _body(lines, started[2]) if (started := _HEREDOC.search(text)) else ""
        cut = list(_cut(text))
        if started and cut:
            index = next((number for number, piece in enumerate(cut) if "<<" in piece), 0)
            cut[index] = _HEREDOC.sub("", cut[index]) + " '" + body.replace("'", " ") + "'"
        yield from cut
    if pending:
        yield from _cut(pending)


def _body(lines: Iterator[str], end: str) -> str:
    body = []
    for line in lines:
        if line.strip() == end:
            break
        body.append(line)
    return "\n".join(body)


def _open(text: str) -> bool:
    """Whether a quote is open at the end."""
    return _scan(text)[0]


def _cut(text: str) -> Iterator[str]:
    last = 0
    for at in [*_scan(text)[1], len(text)]:
        piece = text[last:at].strip(" \t;&|()\n")
        if piece and not piece.startswith("#"):
            yield piece
        last = at


def _scan(text: str) -> tuple[bool, list[int]]:
    """Whether a quote stays open, and where commands end."""
    quote, cuts, skip, comment, depth = "", [], False, False, 0
    for at, character in enumerate(text):
        if character == "(" and text[at - 1 : at] == "$" and quote != "'":
            depth += 1
        elif depth and character in "()":
            depth += 1 if character == "(" else -1
        elif depth:
            pass
        elif skip or (comment and character != "\n"):
            skip = False
        elif comment:
            comment = False
            cuts.append(at)
        elif character == "\\" and quote != "'":
            skip = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (at == 0 or text[at - 1] in " \t\n;"):
            comment = True
            cuts.append(at)
        elif character in ";|\n" or (character == "&" and text[at - 1 : at] not in (">", "<")):
            cuts.append(at)
    return bool(quote), cuts
