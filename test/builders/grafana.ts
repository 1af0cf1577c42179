export type PanelQuery = { readonly panel: string; readonly expression: string; readonly legend: string };

/** The queries of a dashboard's JSON. */
export function queriesOf(dashboard: string): readonly PanelQuery[] {
  const { panels } = JSON.parse(dashboard) as {
    readonly panels: readonly {
      readonly title: string;
      readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
    }[];
  };
  return panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr, legendFormat }) => ({ panel: title, expression: expr, legend: legendFormat })),
  );
}

/** A query as Grafana sends it. Throws an error where a variable is left that it does not know. */
export function withVariables(
  expression: string,
  { namespace, interval }: { readonly namespace: string; readonly interval: string },
): string {
  const query = expression.replaceAll("$namespace", namespace).replaceAll("$__rate_interval", interval);
  if (query.includes("$")) throw new Error(`unknown variable in ${query}`);
  return query;
}
