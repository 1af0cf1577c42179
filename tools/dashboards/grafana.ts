import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import {
  type DataSourceRef,
  ReduceDataOptionsBuilder,
  StackingConfigBuilder,
  StackingMode,
  VisibilityMode,
} from "@grafana/grafana-foundation-sdk/common";
import {
  DashboardBuilder,
  DashboardCursorSync,
  DatasourceVariableBuilder,
  type Dashboard as GrafanaDashboard,
  type Panel as GrafanaPanel,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";
import type { Dashboard, Panel, Query } from "./panel.ts";

const DATASOURCE: DataSourceRef = { type: "prometheus", uid: "$datasource" };
/** Grafana's grid has 24 columns. */
const SIZES = {
  number: { width: 4, height: 4 },
  lines: { width: 8, height: 8 },
  areas: { width: 8, height: 8 },
};

/** A dashboard as Grafana imports it. */
export function grafanaDashboard({ name, title, description, rows }: Dashboard): GrafanaDashboard {
  const builder = new DashboardBuilder(title)
    .uid(`edgefleet-${name}`)
    .description(description)
    .tags(["edge-fleet-operator"])
    .tooltip(DashboardCursorSync.Crosshair)
    .refresh("30s")
    .time({ from: "now-3h", to: "now" })
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"))
    .withVariable(
      new QueryVariableBuilder("namespace")
        .label("Namespace of the operator")
        .datasource(DATASOURCE)
        .query("label_values(edgefleet_leader, namespace)")
        .refresh(VariableRefresh.OnTimeRangeChanged)
        .sort(VariableSort.AlphabeticalAsc)
        .multi(true)
        .includeAll(true)
        // Also where Prometheus adds no namespace.
        .allValue(".*")
        .current({ selected: true, text: "All", value: "$__all" }),
    );
  let id = 0;
  for (const row of rows) {
    id += 1;
    builder.withRow(new RowBuilder(row.title).id(id));
    for (const panel of row.panels) {
      id += 1;
      builder.withPanel(grafanaPanel(panel, id));
    }
  }
  return builder.build();
}

function grafanaPanel(panel: Panel, id: number): Builder<GrafanaPanel> {
  const builder = panel.shape === "number" ? numberOf() : linesOf(panel);
  const { width, height } = SIZES[panel.shape];
  builder
    .id(id)
    .title(panel.title)
    .description(panel.question)
    .datasource(DATASOURCE)
    .unit(panel.unit)
    .span(width)
    .height(height);
  for (const [index, query] of panel.queries.entries()) builder.withTarget(targetOf(query, index));
  return builder;
}

function numberOf(): StatBuilder {
  return new StatBuilder().reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]));
}

function linesOf({ shape }: Panel): TimeseriesBuilder {
  const builder = new TimeseriesBuilder().min(0).showPoints(VisibilityMode.Never);
  return shape === "areas"
    ? builder.fillOpacity(25).stacking(new StackingConfigBuilder().group("A").mode(StackingMode.Normal))
    : builder;
}

function targetOf({ expression, legend }: Query, index: number): DataqueryBuilder {
  return new DataqueryBuilder()
    .datasource(DATASOURCE)
    .refId(String.fromCharCode("A".charCodeAt(0) + index))
    .expr(expression)
    .legendFormat(legend)
    .range();
}
