"""The runbooks as pages of Grafana, so that a panel can lead to one wherever Grafana runs."""

from __future__ import annotations

import re

from grafana_foundation_sdk.builders import text
from grafana_foundation_sdk.models.dashboard import GridPos
from grafana_foundation_sdk.models.text import TextMode

from monitoring.grafana.boards.question import RUNBOOK_FOLDER, RUNBOOKS, runbook_url

_HEIGHT = 14
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def pages() -> list[text.Panel]:
    """A panel a page."""
    return [_page(alert, number) for number, alert in enumerate(RUNBOOKS, start=1)]


def _page(alert: str, number: int) -> text.Panel:
    content = (RUNBOOK_FOLDER / f"{alert}.md").read_text(encoding="utf-8").removeprefix(f"# {alert}\n")
    position = GridPos(x=(number - 1) % 2 * 12, y=(number - 1) // 2 * _HEIGHT, w=12, h=_HEIGHT)
    page = text.Panel().id(number).title(alert).description(f"What to do about {alert}?")
    return page.mode(TextMode.MARKDOWN).content(_LINK.sub(_inside, content).strip()).grid_pos(position)


def _inside(link: re.Match[str]) -> str:
    """A link to another page stays in Grafana; of other documents only the name is left."""
    name, target = link.groups()
    page = target.removesuffix(".md")
    return f"[{name}]({runbook_url(page)})" if page in RUNBOOKS else name
