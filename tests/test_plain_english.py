"""Test that the search finds phrases to avoid in every form, and ignores idiomatic uses."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "plain_english.py"


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_english", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("def test_a_run_goes_on(): ...", "go on"),
        ("class RunGoesOn: ...", "go on"),
        ("# the run goes\n    # on from there", "go on"),
        ('"the run goes "\n    f"on: {step}"', "go on"),
        ("void take_in(uint32_t batch);", "take in"),
        ("// another one is\n// refused", "is refused"),
        ("number_of_evolutions = 3", "evolution"),
        ("target.follow(0.5)", "follow"),
    ],
)
def test_a_phrase_is_found_in_names_comments_and_messages(
    checker: ModuleType, text: str, label: str
) -> None:
    assert label in [phrase.label for _, phrase, _ in checker.findings(text)]


@pytest.mark.parametrize(
    "text",
    [
        "connection refused by the host",
        "arrays have room for n + 16 entries",
        "follow_imports = 'skip'",
        "None if there is none",
        "links are followed for reading",
        "-Wall -Wextra",
        "wall-clock time",
        "for part, took in parts.items():",
        "revolution",
    ],
)
def test_an_idiomatic_use_is_not_found(checker: ModuleType, text: str) -> None:
    assert list(checker.findings(text)) == []


def test_a_finding_contains_its_line_number(checker: ModuleType) -> None:
    assert [line for line, _, _ in checker.findings("a\nb\nwritten anew\n")] == [3]


def test_the_papers_term_is_allowed_once_in_one_file(checker: ModuleType) -> None:
    once = "(SET; the paper calls it evolution)"
    assert list(checker.findings(once, checker.PAPERS_TERM_FILE)) == []
    assert len(list(checker.findings(once + once, checker.PAPERS_TERM_FILE))) == 1
    assert len(list(checker.findings(once, "docs/runs.md"))) == 1


def test_every_phrase_has_its_own_label(checker: ModuleType) -> None:
    labels = [phrase.label for phrase in checker.PHRASES]
    assert len(labels) == len(set(labels)) >= 56
