"""Turns questions into panels, with Grafana's own typed builders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from string import ascii_uppercase
from typing import Final, TypeAlias

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    prometheus,
    stat,
    statushistory,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import GraphDrawStyle, StackingMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardLink,
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.grafana.boards.question import (
    LOG_LINK,
    RUN_LINK,
    SIZES,
    Promql,
    Question,
    Sql,
    View,
    runbook_url,
)

PROMETHEUS: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
POSTGRES: Final = DataSourceRef(type_val="grafana-postgresql-datasource", uid="postgres")
COLUMNS: Final = 24
_OVER_TIME: Final = {View.LINES, View.BARS, View.GRID}
Panel: TypeAlias = barchart.Panel | stat.Panel | timeseries.Panel | statushistory.Panel | table.Panel


class SqlQuery(Dataquery, Builder[Dataquery]):
    """A query of the Postgres data source, which the SDK has no type for."""

    def __init__(self, statement: str, ref_id: str, form: str) -> None:
        self._fields: dict[str, object] = {
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": form,
            "rawQuery": True,
            "rawSql": statement,
            "refId": ref_id,
        }

    def to_json(self) -> dict[str, object]:
        return self._fields

    def build(self) -> Dataquery:
        return self


def panel(question: Question, number: int, position: GridPos) -> Panel:
    """The panel of a question; `number` identifies it on its dashboard."""
    made = _VIEWS[question.view](question)
    made = made.id(number).title(question.title).description(question.question).unit(question.unit)
    made = made.datasource(_source(question)).grid_pos(position)
    for ref_id, query in zip(ascii_uppercase, question.queries, strict=False):
        made = made.with_target(_target(question, query, ref_id))
    if question.levels:
        steps = [Threshold(value=one.start, color=one.colour) for one in question.levels]
        made = made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if question.names:
        made = made.mappings(_mappings(question))
    if question.missing:
        made = made.no_value(question.missing)
    return made.links(_links(question))


def positions(questions: Sequence[Question]) -> list[GridPos]:
    """Places of the panels, from left to right and from top to bottom, without overlap."""
    found, x, y, tallest = [], 0, 0, 0
    for question in questions:
        width, height = question.size or SIZES[question.view]
        if x + width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        found.append(GridPos(x=x, y=y, w=width, h=height))
        x, tallest = x + width, max(tallest, height)
    return found


def _source(question: Question) -> DataSourceRef:
    return PROMETHEUS if isinstance(question.queries[0], Promql) else POSTGRES


def _target(question: Question, query: Promql | Sql, ref_id: str) -> Builder[Dataquery]:
    if isinstance(query, Sql):
        return SqlQuery(
            query.statement,
            ref_id,
            "time_series" if question.view in _OVER_TIME else "table",
        )
    target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend).ref_id(ref_id)
    if question.view is View.TABLE:
        return target.instant().format(PromQueryFormat.TABLE)
    return target.instant() if question.view is View.NUMBER else target.range()


def _mappings(question: Question) -> list[ValueMapping]:
    results = {
        one.value: ValueMappingResult(text=one.text, color=one.colour, index=index)
        for index, one in enumerate(question.names)
    }
    return [ValueMap(options=results)]


def _links(question: Question) -> list[Builder[DashboardLink]]:
    runbooks = [_link(f"Runbook: {alert}", runbook_url(alert)) for alert in question.runbooks]
    return runbooks + [_link(one.title, one.url) for one in question.links]


def _link(title: str, url: str) -> Builder[DashboardLink]:
    return dashboard.DashboardLink(title).type(DashboardLinkType.LINK).url(url)


def _number(question: Question) -> Panel:
    every_row = isinstance(question.queries[0], Sql)
    options = common.ReduceDataOptions().calcs(["lastNotNull"]).values(every_row)
    return stat.Panel().reduce_options(options)


def _lines(_question: Question) -> Panel:
    return timeseries.Panel().legend(common.VizLegendOptions().show_legend(True))


def _bars(question: Question) -> Panel:
    made = timeseries.Panel().legend(common.VizLegendOptions().show_legend(True))
    made = made.draw_style(GraphDrawStyle.BARS).fill_opacity(60)
    return made.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))


def _grid(_question: Question) -> Panel:
    made = statushistory.Panel().show_value(VisibilityMode.NEVER).row_height(0.9).col_width(0.95)
    return made.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))


def _categories(_question: Question) -> Panel:
    return barchart.Panel().legend(common.VizLegendOptions().show_legend(True)).fill_opacity(60)


def _table(question: Question) -> Panel:
    made = table.Panel()
    statement = question.queries[0].statement if isinstance(question.queries[0], Sql) else ""
    for column, title, url in (("run", "Open the run in Airflow", RUN_LINK), ("link", "Open", LOG_LINK)):
        if re.search(rf" AS {column}\b", statement):
            link = {"title": title, "url": url, "targetBlank": True}
            made = made.override_by_name(column, [DynamicConfigValue(id_val="links", value=[link])])
    if question.names:
        colours = DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"})
        for column in ("severity", "status", "state", "verdict", "outcome"):
            if re.search(rf"\b{column}\b", statement):
                made = made.override_by_name(column, [colours])
    return made


_VIEWS: Final[dict[View, Callable[[Question], Panel]]] = {
    View.NUMBER: _number,
    View.LINES: _lines,
    View.BARS: _bars,
    View.GRID: _grid,
    View.CATEGORIES: _categories,
    View.TABLE: _table,
}
