import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { chartTool } from "../../tools/go/chart-tools.ts";
import { runProgram, untilReady } from "../../tools/stack/program.ts";

export type Series = {
  readonly metric: Readonly<Record<string, string>>;
  /** Seconds since 1970, and a number as text: NaN where there was nothing to divide. */
  readonly values: readonly (readonly [number, string])[];
};

export type Range = {
  /** Seconds since 1970. */
  readonly start: number;
  readonly end: number;
  readonly step: number;
};

export type Prometheus = {
  readonly queryRange: (query: string, range: Range) => Promise<readonly Series[]>;
  readonly stop: () => Promise<void>;
};

/** Where metrics are read, and what the chart's ServiceMonitor would add to them. */
export type Target = {
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
};

/** A Prometheus that reads the targets every second, as long as it runs. */
export async function startPrometheus(directory: string, targets: readonly Target[]): Promise<Prometheus> {
  const command = await chartTool("prometheus");
  mkdirSync(directory, { recursive: true });
  const config = join(directory, "prometheus.yaml");
  writeFileSync(
    config,
    stringify({
      global: { scrape_interval: "1s", scrape_timeout: "1s" },
      scrape_configs: [
        {
          job_name: "edge-fleet-operator",
          static_configs: targets.map(({ address, labels }) => ({ targets: [address], labels })),
        },
      ],
    }),
  );
  const program = runProgram({
    name: "prometheus",
    command,
    args: [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(directory, "data")}`,
      "--web.listen-address=127.0.0.1:0",
    ],
    logFile: join(directory, "prometheus.log"),
  });
  const port = await untilReady(program, 30_000, () => {
    if (!program.output().includes("Server is ready to receive web requests")) return null;
    return /msg="Listening on".* address=127\.0\.0\.1:(\d+)/.exec(program.output())?.[1] ?? null;
  });
  return {
    queryRange: async (query, { start, end, step }) => {
      const parameters = new URLSearchParams({
        query,
        start: String(start),
        end: String(end),
        step: String(step),
      });
      const response = await fetch(`http://127.0.0.1:${port}/api/v1/query_range?${parameters}`);
      const answer = (await response.json()) as {
        readonly status: string;
        readonly error?: string;
        readonly data: { readonly result: readonly Series[] };
      };
      if (answer.status !== "success") throw new Error(`${query}: ${answer.error}`);
      return answer.data.result;
    },
    stop: program.stop,
  };
}
