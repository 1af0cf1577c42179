import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, inject, test } from "vitest";

// The commands of the runbooks, as a person pastes them at night, on a real API server.

const FOLDER = join(import.meta.dirname, "../../docs/runbooks");
const run = promisify(execFile);
const namespace = `runbooks-${randomBytes(3).toString("hex")}`;
let directory: string;

/** Every line of every block of commands, once, with the pages that have it. */
function commands(): readonly (readonly [string, readonly string[]])[] {
  const found = new Map<string, string[]>();
  for (const page of globSync("*.md", { cwd: FOLDER }))
    for (const [, block = ""] of readFileSync(join(FOLDER, page), "utf8").matchAll(
      /^ *```sh\n(.*?)^ *```/gms,
    ))
      for (const line of block.trim().split("\n"))
        found.set(line.trim(), [...(found.get(line.trim()) ?? []), page]);
  return [...found];
}

async function shell(command: string): Promise<string> {
  const { stdout } = await run("bash", ["-euo", "pipefail", "-c", command], {
    env: {
      PATH: `${dirname(inject("kubectl"))}:${process.env["PATH"] ?? ""}`,
      KUBECONFIG: inject("kubeconfig"),
      HOME: directory,
    },
  });
  return stdout;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "edgefleet-runbooks-"));
  const digest = `sha256:${"1".repeat(64)}`;
  const image = `registry.example.com/inference@${digest}`;
  const metadata = (name: string) => ({ name, namespace, labels: { fleet: "cameras" } });
  const apiVersion = "edgefleet.dev/v1alpha1";
  const items = [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
    { apiVersion, kind: "EdgeDevice", metadata: metadata("device"), spec: { deviceClass: "jetson-nano" } },
    {
      apiVersion,
      kind: "ModelRelease",
      metadata: metadata("release"),
      spec: {
        model: "digits",
        version: "1.0.0",
        variants: [{ name: "fp32", blob: { container: "models", path: "model.onnx" }, digest }],
      },
    },
    {
      apiVersion,
      kind: "InferenceDeployment",
      metadata: metadata("deployment"),
      spec: {
        release: { name: "release" },
        selector: { matchLabels: { fleet: "cameras" } },
        module: { name: "inference", image },
        strategy: { steps: [{ percent: 100 }] },
      },
    },
  ];
  await writeFile(join(directory, "objects.json"), JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  await shell(`kubectl apply -f ${join(directory, "objects.json")}`);
});
afterAll(async () => {
  await shell(`kubectl delete namespace ${namespace} --wait=false`);
  await rm(directory, { recursive: true, force: true });
});

test.each(commands())("%s", async (command, pages) => {
  const filled = command
    .replaceAll("NAMESPACE", namespace)
    .replaceAll("DEVICE", "device")
    .replaceAll("DEPLOYMENT", "deployment")
    .replaceAll("RELEASE", "release")
    .replaceAll("NAME", "device");
  await expect(shell(filled), pages.join(", ")).resolves.toBeTypeOf("string");
});

test("there are commands to try, and each placeholder is one that the index explains", () => {
  const lines = commands().map(([command]) => command);
  expect(lines.length).toBeGreaterThan(8);
  const placeholders = new Set(lines.flatMap((line) => line.match(/(?<=[ =])[A-Z]{4,}\b/g) ?? []));
  const index = readFileSync(join(FOLDER, "README.md"), "utf8");
  for (const each of placeholders) expect(index, each).toContain(`\`${each}\``);
});
