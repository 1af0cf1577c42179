/** What a panel's numbers are, by the names that Grafana has for units. */
export type Unit = "short" | "percentunit" | "s" | "bytes" | "binBps" | "reqps";

export type Query = {
  /** PromQL, with Grafana's variables `$namespace` and `$__rate_interval`. */
  readonly expression: string;
  /** The name of a series, with its labels as `{{label}}`. */
  readonly legend: string;
};

export type Panel = {
  readonly title: string;
  /** The question that it answers, and what to look for. */
  readonly question: string;
  /** `number`: the latest value; `lines` over time; `areas`: lines of which the sum means something. */
  readonly shape: "number" | "lines" | "areas";
  readonly unit: Unit;
  readonly queries: readonly Query[];
};

export type Row = { readonly title: string; readonly panels: readonly Panel[] };

export type Dashboard = {
  /** The file, the ConfigMap and the start of the picture are named so. */
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly rows: readonly Row[];
};
