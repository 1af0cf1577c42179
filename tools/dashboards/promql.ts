import { METRICS, type VERIFIER_METRICS } from "../../src/telemetry/metrics.ts";

type Name = keyof typeof METRICS | keyof typeof VERIFIER_METRICS;
type NameOf<Type extends string, Table> = {
  [N in keyof Table]: Table[N] extends { readonly type: Type } ? N : never;
}[keyof Table];
type HistogramName = NameOf<"histogram", typeof METRICS> | NameOf<"histogram", typeof VERIFIER_METRICS>;
type CounterName = NameOf<"counter", typeof METRICS> | NameOf<"counter", typeof VERIFIER_METRICS>;
type Process =
  | "process_resident_memory_bytes"
  | "nodejs_heap_size_used_bytes"
  | "nodejs_eventloop_lag_p99_seconds";

/** The series of a metric in the chosen namespaces of the operator. */
export function series(name: Name | Process, matchers = ""): string {
  return selector(name, matchers);
}

/** A gauge that every replica counts from the same objects: once per installation, however many replicas there are. */
export function counted(by: string, name: keyof typeof METRICS, matchers = ""): string {
  const labels = ["namespace", ...METRICS[name].labels].join(", ");
  return sumOf(by, `max by (${labels}) (${selector(name, matchers)})`);
}

/** Of a gauge that only the leader knows. */
export function ofLeader(expression: string): string {
  return `${expression} and on (namespace, instance) ${selector("edgefleet_leader", "")} == 1`;
}

export function ratePerSecond(by: string, name: CounterName, matchers = ""): string {
  return sumOf(by, `rate(${selector(name, matchers)}[$__rate_interval])`);
}

/** How many there were within a day, without the fractions that `increase()` extrapolates. */
export function inADay(name: CounterName, matchers = ""): string {
  return `round(${increase("", name, "1d", matchers)})`;
}

export function increase(by: string, name: CounterName, range: string, matchers = ""): string {
  return sumOf(by, `increase(${selector(name, matchers)}[${range}])`);
}

export function quantile(q: number, by: string, name: HistogramName, matchers = ""): string {
  const labels = by === "" ? "le" : `le, ${by}`;
  return `histogram_quantile(${q}, sum by (${labels}) (rate(${selector(`${name}_bucket`, matchers)}[$__rate_interval])))`;
}

function sumOf(by: string, expression: string): string {
  return `${by === "" ? "sum" : `sum by (${by}) `}(${expression})`;
}

function selector(name: string, matchers: string): string {
  return `${name}{${matchers === "" ? "" : `${matchers},`}namespace=~"$namespace"}`;
}
