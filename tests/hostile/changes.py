"""Insert hostile values into files.

A change usually preserves the format of a file, and `signed` updates the digests in files that
refer to the changed file, so that the code after the first check is reached.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

Files = dict[str, bytes]  # the contents of a folder's files, by path

NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2, 255, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**40,
    -(2**63), 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "0", "../x", "/etc/passwd", "\0",
    "x" * 3000, "F32", "I64", "U64", "BOOL", "linear", "tanh", [], {}, [[]], [0], [0, 0], [-1, 5],
    [2**62, 2**62], {"a": 1}, {"__metadata__": {}},
]  # fmt: skip


# Texts that cause damage if they are interpreted as a path, a module, a C comment, HTML, a formula,
# Markdown, a shell word or a terminal's control sequence. No valid file contains MARK.
MODULE, MARK, OWNED = "canary_module", "canary-mark", "owned"
TEXTS: list[str] = [
    "x */ extern int system(const char *); "
    f'static void __attribute__((constructor)) f(void) {{ (void)!system("touch {OWNED}"); }} /*',
    "*/ int x = y; /*",
    f"{MODULE}:Canary-v0", MODULE, f"{MODULE}:Pendulum-v1", f"__import__('{MODULE}')",
    f"<script>{MARK}</script>", f"<img src=x onerror={MARK}>", f"</text><{MARK}/>",
    f"={MARK}(1)", f"+{MARK}", f"-{MARK}", f"@{MARK}", f"\t={MARK}", f"| [{MARK}](javascript:x) |",
    "../next/run", "../../next/run", "/etc/passwd", "..", ".", "a/b", "~/x", "-rf", "a\\b", "",
    "\x1b]0;owned\x07\x1b[2J", "\u202egnp", "\x9b31m", "a\nb", "a\rb", "\0", "\u2028", "\ufeff",
    f"$(touch {OWNED})", f"`touch {OWNED}`", f"'; touch {OWNED} #", "%s%n%n", "x" * 3000,
    "Pendulum\u2010v1", "\ud800",
]  # fmt: skip
_WHOLE = [0, 1, -1, 2, 2**31, 2**32 - 1, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 10**40]
_REAL = [0.0, -0.0, -1.0, 0.5, 2.0, 1e308, -1e308, 5e-324, float("nan"), float("inf")]


def hostile_tree(tree: Any, rng: Generator) -> Any:
    """Return a copy of a tree with one to three hostile values, mostly of the same type."""
    tree = copy.deepcopy(tree)
    for _ in range(1 + int(rng.integers(3))):
        paths = [path for path in _nodes(tree) if path]
        if not paths:
            break
        path = paths[int(rng.integers(len(paths)))]
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        if rng.random() < 0.1 and isinstance(parent, dict):
            parent[str(hostile(path[-1], rng))[:200]] = parent.pop(path[-1])
        else:
            parent[path[-1]] = hostile(parent[path[-1]], rng)
    return tree


def hostile(value: Any, rng: Generator) -> Any:
    """Return a hostile value that replaces this one."""
    if rng.random() < 0.1:
        value = NASTY[int(rng.integers(1, len(NASTY)))]  # skip None, which TOML cannot represent
    if isinstance(value, bool):
        return not value
    choices: list[Any] = [value]
    if isinstance(value, int):
        choices = [*_WHOLE, value + 1, value - 1]
    elif isinstance(value, float):
        choices = _REAL
    elif isinstance(value, str):
        choices = TEXTS
    elif isinstance(value, list):
        other = [hostile(each, rng) for each in value[:50]]
        choices = [[], value * 2, value[:-1], other, [value], value * 1000 if value else [[]]]
    elif isinstance(value, dict):
        choices = [{}, {**value, TEXTS[int(rng.integers(len(TEXTS)))]: 1}, [value]]
    return copy.deepcopy(choices[int(rng.integers(len(choices)))])


def change_json(name: str, *path: Any, value: Any) -> Callable[[Path], None]:
    """Return a function that sets the node at a path in a JSON file of a run's folder."""

    def change(run: Path) -> None:
        content = json.loads((run / name).read_text())
        node = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        (run / name).write_text(json.dumps(content))

    return change


def raw(data: bytes, rng: Generator) -> bytes:
    if not data:
        return rng.bytes(5)
    at = int(rng.integers(len(data)))
    kind = int(rng.integers(5))
    if kind == 0:  # flip a bit
        return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + rng.bytes(int(rng.integers(9))) + data[at:]
    if kind == 3:
        return data[:at] + data[at + int(rng.integers(1, 20)) :]
    return data + data


def _nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _nodes(value, (*path, key))


def changed_tree(tree: Any, rng: Generator) -> Any:
    """Return a tree with one node replaced, moved by one, renamed or removed."""
    paths = list(_nodes(tree))
    path = paths[int(rng.integers(len(paths)))]
    if not path:
        return nasty(rng)
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    key, kind = path[-1], int(rng.integers(6))
    value = parent[key]
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[str(nasty(rng))[:100]] = parent.pop(key)
    elif kind == 2 and type(value) in (int, float):
        parent[key] = value + int(rng.choice([-1, 1, 2, -value, 7]))
    elif kind == 3:
        other = tree
        for step in paths[int(rng.integers(len(paths)))]:
            other = other[step]
        parent[key] = copy.deepcopy(other)
    elif kind == 4 and isinstance(value, list):
        parent[key] = (value * 3)[: int(rng.integers(3 * len(value) + 1))]
    else:
        parent[key] = nasty(rng)
    return tree


def nasty(rng: Generator) -> Any:
    if rng.random() < 0.02:
        deep: Any = []
        for _ in range(int(rng.integers(50, 250))):
            deep = [deep]
        return deep
    return copy.deepcopy(NASTY[int(rng.integers(len(NASTY)))])


def json_file(data: bytes, rng: Generator) -> bytes:
    try:
        tree = json.loads(data)
    except ValueError:
        return raw(data, rng)
    text = json.dumps(changed_tree(tree, rng)).encode()
    if rng.random() < 0.02:  # repeat a name
        text = text.replace(b'{"', b'{"format": 1, "format": 2, "', 1)
    return text


def tensors_file(data: bytes, rng: Generator) -> bytes:
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        payload = bytearray(data[8 + length :])
        names = [name for name in header if name != "__metadata__"]
        if rng.random() < 0.5 and names and payload:  # change an entry of an array
            about = header[names[int(rng.integers(len(names)))]]
            begin, end = about["data_offsets"]
            kind = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8", "U8": "u1",
                    "BOOL": "u1", "U32": "<u4", "I32": "<i4"}[about["dtype"]]  # fmt: skip
            values = np.frombuffer(bytes(payload[begin:end]), kind).copy()
            if values.size:
                at = int(rng.integers(values.size))
                odd = [np.nan, np.inf, -np.inf, 3e38, 0.0, -1.0]
                whole = [0, 1, 2, 255, 2**31, 2**32, -1, 2**62, -(2**63), int(values.flat[at]) + 1
                         if kind[-2] != "f" else 0]  # fmt: skip
                if rng.random() < 0.3:
                    values[:] = values[rng.permutation(values.size)]
                elif "f" in kind:
                    values[at] = odd[int(rng.integers(len(odd)))]
                else:
                    with np.errstate(all="ignore"):
                        chosen = whole[int(rng.integers(len(whole)))]
                        values[at] = np.array(chosen % 2**64, np.uint64).astype(kind)
                payload[begin:end] = values.tobytes()
        else:
            header = changed_tree(header, rng)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return raw(data, rng)
    text = json.dumps(header).encode()
    size = len(text) + int(rng.choice([0, 0, 0, 0, 0, 0, 1, -1, 2**20, 2**62]))
    return (size % 2**64).to_bytes(8, "little") + text + bytes(payload)


def lines(data: bytes, rng: Generator) -> bytes:
    """Change TOML or CSV: replace a value, or remove, duplicate or move a line."""
    lines = data.split(b"\n")
    at = int(rng.integers(len(lines)))
    kind = int(rng.integers(4))
    value = nasty(rng)
    text = (json.dumps(value) if rng.random() < 0.5 else str(value)).encode(errors="replace")
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(int(rng.integers(len(lines))), lines[at])
    elif b"=" in lines[at]:
        lines[at] = lines[at].split(b"=")[0] + b"= " + text
    else:
        row = next(csv.reader(io.StringIO(lines[at].decode(errors="replace"))), [""])
        row[int(rng.integers(len(row) or 1)) :][:1] = [text.decode()]
        cells = [cell.encode() for cell in row]
        cells[int(rng.integers(len(cells)))] = text
        lines[at] = b",".join(cells)
    return b"\n".join(lines)


def signed(files: Files) -> Files:
    """Return the files with sizes and digests that match their contents."""
    files = dict(files)
    for name in [name for name in files if name.endswith(".json")]:
        folder, _, base = name.rpartition("/")
        try:
            tree = json.loads(files[name])
            if base == "agent.json":
                data = files["agent.safetensors"]
                tree["file"] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            elif base == "manifest.json":
                data = files[f"{folder}/state.safetensors"]
                tree["file"] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for entry in tree["replay"]["segments"]:
                    _sign_segment(files, entry)
                tree.pop("sha256", None)
                text = json.dumps(tree, sort_keys=True).encode()
                tree["sha256"] = hashlib.sha256(text).hexdigest()
            else:
                continue
            files[name] = json.dumps(tree).encode()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return files


def _sign_segment(files: Files, entry: dict[str, Any]) -> None:
    """Rename a segment according to its content, and update its entry in the manifest."""
    old = [name for name in files if name.startswith("replay/") and entry["sha256"][:16] in name]
    for name in old:
        data = files.pop(name)
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        name = f"{entry['begin']}-{entry['end']}-{entry['sha256'][:16]}.safetensors"
        files[f"replay/{name}"[:200].replace("\0", "")] = data
