"""Reads YAML mappings, rejects repeated keys, and records the line of every value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from config.text_files import NotText, read_utf8

Location = tuple[str | int, ...]
_MERGE: Final = "tag:yaml.org,2002:merge"


class NotYaml(ValueError):
    """The file is not a YAML mapping; one sentence naming it and the line."""


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A mapping read from a file.

    Attributes:
        lines: per path of keys and indexes the line, from 1, on which it begins.
    """

    path: Path
    values: dict[str, Any]
    lines: Mapping[Location, int]

    @classmethod
    def read(cls, path: Path) -> YamlFile:
        """Read a file; one without content is an empty mapping.

        Raises:
            FileNotFoundError: there is no such file.
            NotYaml: it is not UTF-8 or not YAML, holds no mapping, or the same key twice.
        """
        try:
            text = read_utf8(path)
        except NotText as error:
            raise NotYaml(str(error)) from None
        try:
            content, lines = _content(path, text)
        except ReaderError as error:
            line = text.encode().count(b"\n", 0, error.position) + 1
            raise NotYaml(f"{path}: line {line}: is not YAML: {error.reason}.") from None
        except yaml.MarkedYAMLError as error:
            raise NotYaml(f"{path}: {_line_of(error)}is not YAML: {_problem(error)}.") from None
        except RecursionError:
            raise NotYaml(f"{path}: is nested too deeply.") from None
        if content is not None and not isinstance(content, dict):
            raise NotYaml(f"{path}: must hold a mapping of names to values.")
        return cls(path, content or {}, lines)

    def known_prefix(self, location: Sequence[str | int]) -> Location:
        """The longest prefix of `location` that the file contains."""
        whole = tuple(location)
        return next((whole[:end] for end in range(len(whole), 0, -1) if whole[:end] in self.lines), ())

    def origin(self, location: Sequence[str | int]) -> str:
        """`file: line n`, or only the file if it contains no prefix of `location`."""
        line = self.lines.get(self.known_prefix(location))
        return self.path.name if line is None else f"{self.path.name}: line {line}"


def _content(path: Path, text: str) -> tuple[Any, dict[Location, int]]:
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        return None, {}
    lines = dict(_Lines(path, loader).below(node, ()))
    return loader.construct_document(node), lines


class _Loader(Composer, yaml.CSafeLoader):
    """Adds the line to errors of values that look like a date or a number but are not valid.

    libyaml scans and parses, ten times as fast as Python. It does not compose: its own composer follows a
    deeply nested file until the process dies, where Python's raises RecursionError.
    """

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise ConstructorError(problem=str(error), problem_mark=node.start_mark) from None


class _Lines:
    """Visits each node of a file once; a value that an alias refers to has the line of its anchor."""

    def __init__(self, path: Path, loader: _Loader) -> None:
        self._path = path
        self._loader = loader
        self._seen: set[int] = set()

    def below(self, node: Node, at: Location) -> Iterator[tuple[Location, int]]:
        """Path and line of everything below a node.

        Raises:
            NotYaml: a mapping has the same key twice.
        """
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        for key, line, child in self._children(node, at):
            yield (*at, key), line
            yield from self.below(child, (*at, key))

    def _children(self, node: Node, at: Location) -> Iterator[tuple[Any, int, Node]]:
        if isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                yield index, item.start_mark.line + 1, item
        elif isinstance(node, MappingNode):
            first: dict[Any, int] = {}
            for key_node, child in node.value:
                line = key_node.start_mark.line + 1
                key = self._key(key_node)
                if key in first:
                    name = ".".join(map(str, (*at, key_node.value)))
                    raise NotYaml(
                        f"{self._path}: line {line}: {name} is set on line {first[key]} already: keep one."
                    )
                first[key] = line
                yield key, line, child

    def _key(self, node: Node) -> Any:
        if not isinstance(node, ScalarNode):
            raise ConstructorError(problem="a key is not a name", problem_mark=node.start_mark)
        return node.value if node.tag == _MERGE else self._loader.construct_object(node)


def _line_of(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}: " if mark is not None else ""


def _problem(error: yaml.MarkedYAMLError) -> str:
    return " ".join(filter(None, (error.context, error.problem)))
