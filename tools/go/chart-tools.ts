import { join } from "node:path";
import { buildIntoCache, cachedDirectory, type GoBuild, type Progress, whyGoCannot } from "./go-build.ts";

// What charts and alerts are checked with. Each has a module of its own: together, their dependencies exclude each other.

const PACKAGES = {
  helm: "helm.sh/helm/v4/cmd/helm",
  "helm-unittest": "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
  kubeconform: "github.com/yannh/kubeconform/cmd/kubeconform",
  "kube-score": "github.com/zegl/kube-score/cmd/kube-score",
  prometheus: "github.com/prometheus/prometheus/cmd/prometheus",
  promtool: "github.com/prometheus/prometheus/cmd/promtool",
  amtool: "github.com/prometheus/alertmanager/cmd/amtool",
  actionlint: "github.com/rhysd/actionlint/cmd/actionlint",
} as const;
export type ChartTool = keyof typeof PACKAGES;

/** The path of a tool, which is built from its Go module on first use and cached. Throws an error for people where it cannot be. */
export async function chartTool(tool: ChartTool, progress: Progress = toStderr): Promise<string> {
  const build = buildOf(tool);
  const cached = cachedDirectory(build);
  if (cached !== null) return join(cached, tool);
  const why = await whyGoCannot(build);
  if (why !== null) throw new Error(`${tool} is built from a Go module, and ${why}: see CONTRIBUTING.md`);
  return join(await buildIntoCache(build, progress), tool);
}

function buildOf(tool: ChartTool): GoBuild {
  return {
    name: tool,
    module: join(import.meta.dirname, tool),
    flags: [
      "-trimpath",
      "-buildvcs=false",
      "-ldflags=-s -w",
      // Tests need no service discovery, which is the SDKs of every cloud: promtool takes 13 s instead of minutes.
      ...(tool === "promtool" || tool === "prometheus" ? ["-tags=remove_all_sd"] : []),
    ],
    packages: [{ file: tool, path: PACKAGES[tool] }],
  };
}

function toStderr(line: string): void {
  process.stderr.write(`${line}\n`);
}
