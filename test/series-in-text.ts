import { METRICS, VERIFIER_METRICS } from "../src/telemetry/metrics.ts";

// Prometheus series as they are written in documents and rules, compared with what the code exports.

type Declared = (typeof METRICS & typeof VERIFIER_METRICS)[keyof (typeof METRICS & typeof VERIFIER_METRICS)];
const DECLARED: Readonly<Record<string, Declared>> = { ...METRICS, ...VERIFIER_METRICS };

type Series = {
  readonly text: string;
  /** The metric of the code; `undefined`: there is none. */
  readonly metric: Declared | undefined;
  readonly labels: readonly string[];
};

/** Every series of ours that is named in `text`, with the labels that are selected. */
export function seriesIn(text: string): readonly Series[] {
  return [...text.matchAll(/\b(edgefleet_\w+)(?:\{([^}]*)\})?/g)].map(
    ([whole, name = "", selectors = ""]) => ({
      text: whole,
      metric: metricOf(name),
      labels: [...selectors.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label = ""]) => label),
    }),
  );
}

/** Series of a metric that does not exist, or with a label that it does not have. */
export function straysIn(text: string, targetLabels: readonly string[] = []): readonly string[] {
  return seriesIn(text).flatMap(({ text: series, metric, labels }) => {
    const known: readonly string[] = [...(metric?.labels ?? []), ...targetLabels];
    return metric !== undefined && labels.every((label) => known.includes(label)) ? [] : [series];
  });
}

function metricOf(name: string): Declared | undefined {
  const base = DECLARED[name.replace(/_(?:bucket|sum|count)$/, "")];
  return DECLARED[name] ?? (base?.type === "histogram" ? base : undefined);
}
