"""Find phrases that should not be used in the repository, and suggest replacements.

The search covers names (parts of snake_case and CamelCase), comments, docstrings, messages and
documentation in every text file that git tracks. A phrase is also found if it extends over line
breaks, comment marks or the quotes of adjacent string literals.

    python .ci/plain_english.py                  # FILE:LINE for each finding; exit code 1 if any
    python .ci/plain_english.py --counts HEAD    # findings per phrase in a revision or a folder
    python .ci/plain_english.py --areas          # findings per folder
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = (
    ".py", ".pyi", ".md", ".toml", ".h", ".inl", ".cpp", ".c", ".css", ".js", ".ld", ".yml", ".txt",
)  # fmt: skip
NAMES = ("Makefile", "run", ".gitignore", ".clang-format")
# The project's history, data, and files that must contain the phrases.
EXCLUDED = (
    "CHANGELOG.md", "LICENSE", "licenses/", "results/", "shared/", "tests/fuzz/corpus",
    ".ci/plain_english.py", "src/sparl/old_names.py", "tests/extras/pytorch/test_old_names.py",
    "tests/test_plain_english.py",
)  # fmt: skip
# The file that may mention the papers' term for a topology update once, and that mention.
PAPERS_TERM_FILE = "docs/methods/ds.md"
PAPERS_TERM = re.compile(r"the\s+paper\s+calls\s+it\s+evolution")

_GAP = r"""(?:[\s_]+(?:["']\s*f?["']|\#|//|\*|>)?\s*|-|(?-i:(?<=[a-z])(?=[A-Z])))"""
_START = r"(?:(?<![A-Za-z])|(?-i:(?<=[a-z])(?=[A-Z])))"
_END = r"(?:(?![A-Za-z])|(?-i:(?<=[a-z])(?=[A-Z])))"


@dataclass(frozen=True)
class Phrase:
    """A phrase to avoid.

    Attributes:
        label: its name in the output.
        pattern: a regular expression, in which a space matches any separator of two words.
        instead: what to write.
    """

    label: str
    pattern: str
    instead: str

    @property
    def expression(self) -> re.Pattern[str]:
        """The compiled expression, matched at the boundaries of words and parts of names."""
        body = self.pattern.replace(" ", _GAP)
        return re.compile(f"{_START}(?:{body}){_END}", re.IGNORECASE)


# Phrases that readers complained about most. Ordinary words are matched only in the meant sense.
STYLE = (
    Phrase(
        "go on",
        r"(?:go|goes|going|went|gone) on(?! (?:top|the|a|standard|their))",
        "continue, resume",
    ),
    Phrase("beside", r"beside", "concurrently with, next to, compared with"),
    Phrase("meanwhile", r"meanwhile", "concurrently, at the same time"),
    Phrase("whoever", r"whoever", "the caller, the user, the accessor"),
    Phrase(
        "is waited for",
        r"(?:is|are|was|were|be) waited for|asks for (?:it|them) waits|who waits",
        "blocks until ... has finished",
    ),
    Phrase("take in", r"(?:take|takes|taken) in(?! turns)", "pack"),
    Phrase("hand out", r"(?:hand|hands|handed|handing) out", "unpack, return"),
    Phrase(
        "follow",
        r"follow(?=\()|follow gathered|for followed in|targets? follows?|follows? (?:the )?online",
        "soft update, Polyak update",
    ),
    Phrase("evolution", r"evolutions?|evolv(?:e|es|ed|ing)", "topology update"),
    Phrase("hand back", r"(?:hands?|handed|gives?|given|giving) back", "return"),
    Phrase("doors", r"doors?(?! key)", "entry point"),
    Phrase("rooms", r"rooms|(?:a|the|one|its|their|each) room(?! for)|room of", "package, buffer"),
    Phrase("walls", r"(?-i:walls|[aA] wall|[tT]he wall)(?! (?:clock|time|seconds))", "boundary"),
    Phrase(
        "is refused",
        r"(?:is|are|was|were|be|been|being|get|gets) refused|refus(?:es?|ing|al)",
        "is rejected, raises",
    ),
    Phrase("of which the ... is", r"of which the \w+ (?:is|are)", "averaged over"),
    Phrase("to know", r"h2>to know|^\#+ to know", "Notes"),
    Phrase(
        "so does its end",
        r"so (?:does|do|did) (?:its|an?|the|every)",
        "name the subject and the verb",
    ),
    Phrase("is raised at the end", r"what (?:it|they) raises? is", "say which exception and when"),
)

# Phrases found in this repository's earlier texts.
FOUND = (
    Phrase(
        "write on, train on", r"(?:writes|trains|write|train) on(?= with|,|\.| from)", "continues"
    ),
    Phrase("anew", r"anew", "again"),
    Phrase("round and round", r"round and round", "repeatedly, in a ring"),
    Phrase(
        "is none", r"(?<!there.)(?:is|are) (?-i:none)(?! of|\w)", "does not count, does not exist"
    ),
    Phrase("of ours", r"of ours|(?:stands? \w+|beside|is|are) ours|(?:in )our words", "sparl's"),
    Phrase("of our own", r"of our own|one's own|of yours|of the user's", "your own, a custom"),
    Phrase(
        "what is there",
        r"(?:what|all|those|that) (?:there|is) (?:is|are|was|were|there)(?! a| no| an)",
        "existing, present",
    ),
    Phrase("where due", r"where due|when due", "if it is scheduled"),
    Phrase("to be had", r"(?:to be|be|is) had", "available"),
    Phrase("nothing is left to", r"nothing is left to", "no ... remains"),
    Phrase("but for", r"but for(?! the following)", "except"),
    Phrase(
        "stands in",
        r"stands? (?:in|at|for itself|beside|before|alone|apart)(?! for)|stood in",
        "is in, appears in",
    ),
    Phrase("in the place of", r"in (?:the|its|their) place(?: of)?", "instead of"),
    Phrase("oftener", r"oftener", "more often"),
    Phrase("some twenty", r"some (?:ten|twenty|thirty|forty|fifty|\d[\d,.]*)", "about"),
    Phrase("nobody", r"nobody", "no caller, no process, nothing"),
    Phrase("somebody", r"somebody|anybody", "someone, another process"),
    Phrase(
        "what is wrong",
        r"(?:what|whatever|all that|everything that|something) is wrong",
        "errors, problems",
    ),
    Phrase("complaint", r"complaints?|complains?", "message, error"),
    Phrase("let go of", r"let(?:s|ting)? go", "release, close"),
    Phrase("take over", r"(?:take|takes|took|taken) over", "load, adopt, copy"),
    Phrase("worked out", r"(?:is|are|was|ever|be) worked out|works? out", "computed"),
    Phrase("cannot be (what it is)", r"that cannot be(?=\.|,|:|;| and| or)", "invalid"),
    Phrase("at the least", r"at the (?:least|most)", "at least, at most"),
    Phrase(
        "as it is (unchanged)",
        r"(?:left|kept|stays?|leaves?|keeps?) (?:\w+ )?as (?:it is|they are)",
        "unchanged",
    ),
    Phrase("stays its own", r"(?:stays?|remains?) (?:its|their|one's) own", "keeps"),
    Phrase(
        "of its own (apart)",
        r"in a (?:loop|folder|file|process|thread|place) of (?:its|their) own",
        "separate",
    ),
    Phrase("is told", r"(?:is|are|was|be|been) told", "is given, receives"),
    Phrase(
        "has it (a method has it)",
        r"as (?:the|a|its) (?:method|preset) has it|as \w+ has (?:it|them)",
        "as in, by default",
    ),
    Phrase("as was asked", r"(?:was|were|is|are|been) asked (?:for|to)|asked for", "requested"),
    Phrase(
        "what it is of", r"of which it is|it is of|what (?:it|they) (?:is|are) of", "name the owner"
    ),
    Phrase("is behind", r"(?:is|lies|far) behind|how far behind", "is older than"),
    Phrase("comes to", r"(?:what )?(?:it|they|all) (?:comes?|came) to", "totals"),
    Phrase(
        "by itself",
        r"(?:ends?|stops?|stopped|ended|end it|comes?) by (?:itself|themselves)",
        "on its own",
    ),
    Phrase("now and then", r"now and then", "periodically"),
    Phrase("is gone", r"(?:is|are|was|were) gone", "no longer exists"),
    Phrase("lives in", r"(?:what |who )?lives? (?:there|here|in|elsewhere)", "is in"),
    Phrase("says so", r"says? so|said so", "states it"),
    Phrase(
        "walk (a data structure)",
        r"(?:is|are|be) walked|walk(?:s|ing)? (?:them|it|the|a|all|every|their|back)",
        "traverse, iterate over",
    ),
    Phrase("takes its turn", r"(?:takes? (?:its |their )?|in )turns", "alternately, interleaved"),
    Phrase("belongs to whom", r"whose (?:it|they) (?:is|are)|who (?:owns|holds) what", "the owner"),
    Phrase(
        "as many as",
        r"of as many connections|as many are added|grow as many|as many grown",
        "the same number",
    ),
    Phrase("all is well", r"all is well|if all goes well", "on success"),
    Phrase("beforehand known", r"(?:is|are) known (?:before|here|of)", "name what is known"),
    Phrase("will do", r"will do(?=[.,;:])", "is sufficient, is accepted"),
    Phrase("in words", r"(?<=,.)in words|(?:type|differences) in words", "as text"),
    Phrase(
        "is no X",
        r"(?:is|are) no (?:integers?|numbers?|file|folder|degrees|run's|name|rule|fault|regular)",
        "is not a",
    ),
    Phrase("cannot name a folder", r"cannot name an?", "is not a valid name"),
    Phrase("leave out", r"(?:leaves?|left|leaving) (?:it |them |\w+ )?out", "omit, skip"),
    Phrase("whatever its", r"whatever (?:its|their)", "regardless of"),
    Phrase("when there is room", r"(?:when|once) there is room", "when there is space"),
    Phrase("of those alone", r"of (?:it|those|these|them) alone", "only"),
    Phrase("is X, must be Y", r'(?:is|has|are) [^,;:"\n]{1,60}, must (?:be|have)', "but must be"),
    Phrase("is not the one", r"is not the one", "differs from"),
    Phrase("turned round, nought", r"turned round|nought", "reversed, zero"),
    Phrase(
        "a run of a study",
        r"(?:a|one) (?:run of a study|file of a run)",
        "one of a study's runs, one of a run's files",
    ),
    Phrase("a command of the command line", r"commands? of the command line", "a command"),
    Phrase("what ... sees of", r"sees of an?", "the inputs of the agent"),
    Phrase(
        "has N observations",
        r"(?:has|have) \{[^{}\n]+\} (?:observations|actions)",
        "expects observations of length N",
    ),
)

PHRASES = STYLE + FOUND
TABLE = [(phrase, phrase.expression) for phrase in PHRASES]


def is_searched(name: str) -> bool:
    """Return whether a file of this name, relative to the root, is searched."""
    if name.startswith(EXCLUDED):
        return False
    return name.endswith(SUFFIXES) or name.rpartition("/")[2] in NAMES


def findings(text: str, name: str = "") -> Iterator[tuple[int, Phrase, str]]:
    """Find every phrase of the table in a text.

    Args:
        text: the content of a file.
        name: the file's name; PAPERS_TERM_FILE may contain the papers' term once.

    Yields:
        The line, counted from 1, the phrase and the words that matched.
    """
    if name == PAPERS_TERM_FILE:
        text = PAPERS_TERM.sub(lambda match: re.sub(r"\S", ".", match[0]), text, count=1)
    for phrase, expression in TABLE:
        for match in expression.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, phrase, " ".join(match[0].split())


def tracked_files() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every searched file that git tracks, from the working tree."""
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, names.split("\0")):
        if is_searched(name) and (ROOT / name).is_file():
            yield name, (ROOT / name).read_text("utf-8", "replace")


def files_of(source: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every searched file in a folder or a revision.

    Args:
        source: a folder, or a revision of this repository.
    """
    folder = Path(source)
    if folder.is_dir():
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and is_searched(name):
                yield name, path.read_text("utf-8", "replace")
        return
    packed = subprocess.check_output(["git", "archive", source], cwd=ROOT)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            content = archive.extractfile(member) if is_searched(member.name) else None
            if content is not None:
                yield member.name, content.read().decode("utf-8", "replace")


def area(name: str) -> str:
    """Return the folder under which a file's findings are counted."""
    parts = name.split("/")
    if parts[0] == "src":
        return "/".join(parts[:3])
    return parts[0]


def main() -> int:
    """Search the files, print the findings, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", metavar="REV", help="count each phrase in a revision or folder")
    parser.add_argument("--areas", action="store_true", help="count findings per folder")
    parser.add_argument("paths", nargs="*", help="only files whose names start with one of these")
    options = parser.parse_args()
    files = files_of(options.counts) if options.counts else tracked_files()
    counts: Counter[str] = Counter()
    areas: Counter[str] = Counter()
    for name, text in files:
        if options.paths and not name.startswith(tuple(options.paths)):
            continue
        for line, phrase, words in sorted(findings(text, name), key=lambda found: found[0]):
            counts[phrase.label] += 1
            areas[area(name)] += 1
            if not options.counts and not options.areas:
                print(f"{name}:{line}: '{words}'; write: {phrase.instead}")
    if options.counts:
        for phrase in PHRASES:
            print(f"{counts[phrase.label]:6}  {phrase.label}")
    if options.areas:
        for name, count in sorted(areas.items()):
            print(f"{count:6}  {name}")
    print(f"{counts.total():6}  findings", file=sys.stderr)
    return 1 if counts else 0


if __name__ == "__main__":
    sys.exit(main())
