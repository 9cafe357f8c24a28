"""A document of headings, paragraphs, tables and pictures, written as Markdown and as one HTML file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Points:
    """A list of sentences."""

    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG or PNG, as its name says; `reference` is its path from the Markdown file."""

    title: str
    reference: str
    content: bytes

    @property
    def media_type(self) -> str:
        return "image/svg+xml" if self.reference.endswith(".svg") else "image/png"


Element = Heading | Paragraph | Points | Table | Picture

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #d5dbe1; }
table { border-collapse: collapse; width: 100%; margin-bottom: 1rem; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; }
th, td { border-bottom: 1px solid #e6eaee; }
th { color: #52606d; font-weight: 600; }
td { font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: 1 1 24rem; } img { max-width: 100%; }
figcaption { color: #52606d; font-size: .9rem; }
""".strip()


def to_markdown(elements: Sequence[Element]) -> str:
    return "\n\n".join(map(_markdown, elements)) + "\n"


def to_html(title: str, elements: Sequence[Element]) -> str:
    """One file without references: style and pictures are part of it."""
    body: list[str] = []
    for number, element in enumerate(elements):
        picture = isinstance(element, Picture)
        if picture and not (number and isinstance(elements[number - 1], Picture)):
            body.append('<div class="pictures">')
        body.append(_html(element))
        if picture and not (number + 1 < len(elements) and isinstance(elements[number + 1], Picture)):
            body.append("</div>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>\n{_STYLE}\n</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _markdown(element: Element) -> str:
    if isinstance(element, Heading):
        return f"{'#' * element.level} {element.text}"
    if isinstance(element, Paragraph):
        return element.text
    if isinstance(element, Points):
        return "\n".join(f"- {text}" for text in element.texts)
    if isinstance(element, Picture):
        return f"![{element.title}]({element.reference})"
    rows = [element.header, ["---"] * len(element.header), *element.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _html(element: Element) -> str:
    if isinstance(element, Heading):
        return f"<h{element.level}>{escape(element.text)}</h{element.level}>"
    if isinstance(element, Paragraph):
        return f"<p>{escape(element.text)}</p>"
    if isinstance(element, Points):
        return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in element.texts) + "</ul>"
    if isinstance(element, Picture):
        source = b64encode(element.content).decode()
        title = escape(element.title)
        return (
            f'<figure><img alt="{title}" src="data:{element.media_type};base64,{source}">'
            f"<figcaption>{title}</figcaption></figure>"
        )
    header = "".join(f"<th>{escape(cell)}</th>" for cell in element.header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in element.rows
    )
    return f"<table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>"
