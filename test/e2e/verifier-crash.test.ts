import { globSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { VariantStatus } from "../../src/api/model-release.ts";
import { digestOf } from "../../src/base/digest.ts";
import { eventually, type Operator } from "../../tools/stack/local-stack.ts";
import type { Program } from "../../tools/stack/program.ts";
import { uploadFolder } from "../../tools/upload.ts";
import { endlessModel, seededRandom } from "../builders/verifier/onnx-model.ts";
import { type Fleet, type LiveRelease, releaseObject, startFleet } from "./fleet.ts";

// Both sides of verification are killed at random moments. Whatever is lost is done again: in the end every release has
// the one verdict that it has without kills, and at no moment two models ran beside each other.

const SEED = Number(process.env["EDGEFLEET_SEED"] ?? Date.now() % 1_000_000);
const KILLS = Number(process.env["EDGEFLEET_VERIFIER_KILLS"] ?? 10);
const GOLDEN = "digits/1.0.0/golden.npz";
const ENDLESS = "hostile/endless.onnx";

let fleet: Fleet;
let operator: Operator;
let verifier: Program;
let goldenDigest: string;
let endlessDigest: string;

beforeAll(async () => {
  fleet = await startFleet("verifier-crash");
  verifier = fleet.stack.verifier;
  const hostile = join(fleet.stack.directory, "upload", "hostile");
  await mkdir(hostile, { recursive: true });
  await writeFile(join(hostile, "endless.onnx"), endlessModel());
  await uploadFolder({
    connectionString: fleet.stack.azurite.connectionString,
    container: "models",
    folder: join(fleet.stack.directory, "upload"),
  });
  const files = join(import.meta.dirname, "../../examples/models/files");
  goldenDigest = digestOf(await readFile(join(files, GOLDEN)));
  endlessDigest = digestOf(endlessModel());
  operator = await startOperator();
});
afterAll(() => fleet.stop());

// Without an election a restarted operator need not wait for the Lease of the one that was killed.
const startOperator = () => fleet.startOperator("operator", ["--leader-election", "false"]);

type Kind = { readonly verdict: string; readonly make: Make };
type Make = (name: string, index: number) => Promise<object>;

/** Samples differ from release to release: equal requests would have one verdict together. */
const latency = (index: number) => ({ p95: "1m", warmup: 5, samples: 400 + index });
const accuracy = (minimumAccuracy: string) => ({
  blob: { container: "models", path: GOLDEN },
  digest: goldenDigest,
  minimumAccuracy,
});
const KINDS: readonly Kind[] = [
  {
    verdict: "Passed VerificationPassed",
    make: (name, index) =>
      releaseObject(name, {
        verification: { timeout: "1m", golden: accuracy("0.9"), latency: latency(index), ...LONG },
      }),
  },
  {
    verdict: "Failed AccuracyTooLow",
    make: (name, index) =>
      releaseObject(name, {
        verification: { timeout: "1m", golden: accuracy("1"), latency: latency(index) },
      }),
  },
  {
    verdict: "Failed TimedOut",
    make: (name, index) =>
      releaseObject(name, {
        file: ENDLESS,
        digest: endlessDigest,
        verification: { timeout: "1500ms", latency: latency(index) },
      }),
  },
];
/** So that a kill finds something to interrupt. */
const LONG = { throughput: { minimumPerSecond: 1, duration: "1s" } };

test(
  `after ${KILLS} kills at random moments of a verification every release has its one verdict (EDGEFLEET_SEED=${SEED})`,
  async () => {
    const random = seededRandom(SEED);
    const most = watchChildren(fleet.stack.directory);
    const expected = new Map<string, Kind>();
    /** What a release was once said to be. */
    const seen = new Map<string, Given>();
    const killed = { operator: 0, verifier: 0, busy: 0 };

    for (let kill = 0; kill < KILLS; kill += 1) {
      const name = `digits-crash-${kill}`;
      const kind = KINDS[Math.floor(random() * KINDS.length)]!;
      expected.set(name, kind);
      await fleet.apply(await kind.make(name, kill));
      await sleep(random() * 2500);
      if (childrenOf(fleet.stack.directory).length > 0) killed.busy += 1;
      const which = random() < 0.6 ? "verifier" : "operator";
      killed[which] += 1;
      if (which === "operator") {
        operator.kill("SIGKILL");
        expect(await operator.ended).toBe("SIGKILL");
        operator = await startOperator();
      } else {
        verifier.kill("SIGKILL");
        expect(await verifier.ended).toBe("SIGKILL");
        await eventually("the child of a killed verifier is gone", nobodyIsLeft, { within: 5000, every: 20 });
        verifier = await fleet.startVerifier();
      }
      await noteVerdicts(seen);
    }

    await eventually(
      "every release has a verdict",
      async () => {
        await noteVerdicts(seen);
        return seen.size === expected.size;
      },
      { within: 120_000 + KILLS * 5000, every: 500 },
    );
    for (const [name, { verdict }] of expected)
      expect([name, verdictText(seen.get(name))]).toEqual([name, verdict]);
    expect(await most.stop()).toBe(1);
    expect(killed.busy).toBeGreaterThan(0);
    await eventually("no child is left", nobodyIsLeft, { within: 5000 });
    const files = await readdir(join(fleet.stack.directory, "verifier"));
    expect(files.filter((file) => file.startsWith("verification-"))).toEqual([]);
    process.stdout.write(`killed ${JSON.stringify(killed)} with seed ${SEED}\n`);
  },
  240_000 + KILLS * 15_000,
);

/** What of a verdict must not change: its report may come later. */
type Given = Partial<Pick<VariantStatus, "verdict" | "reason" | "verifiedAt" | "checks">>;

/** A verdict that was given stays as it is, and is not given again. */
async function noteVerdicts(seen: Map<string, Given>): Promise<void> {
  const { items } = JSON.parse(await fleet.kubectl("get", "mrel", "-o", "json")) as {
    readonly items: readonly LiveRelease[];
  };
  for (const { metadata, status } of items) {
    const variant = status?.variants?.[0];
    if (variant?.verifiedAt === undefined) continue;
    const { verdict, reason, verifiedAt, checks } = variant;
    expect({ verdict, reason, verifiedAt, checks }).toEqual(seen.get(metadata.name) ?? expect.anything());
    seen.set(metadata.name, { verdict, reason, verifiedAt, checks } as Given);
  }
}

function verdictText(given: Given | undefined): string {
  return [given?.verdict, given?.reason].filter((word) => word !== undefined).join(" ");
}

async function nobodyIsLeft(): Promise<boolean> {
  return childrenOf(fleet.stack.directory).length === 0;
}

/** Processes of models of this stack's verifiers, whichever of them has started them. */
function childrenOf(directory: string): readonly string[] {
  return globSync("/proc/[0-9]*/cmdline").filter((path) => {
    try {
      const line = readFileSync(path, "utf8");
      return line.includes("verifier/child/main") && line.includes(`${directory}/`);
    } catch {
      return false;
    }
  });
}

/** Counts all the time; the highest number is what `stop` gives. */
function watchChildren(directory: string): { readonly stop: () => Promise<number> } {
  let most = 0;
  let stopped = false;
  const watching = (async () => {
    while (!stopped) {
      most = Math.max(most, childrenOf(directory).length);
      await sleep(50);
    }
  })();
  return {
    stop: async () => {
      stopped = true;
      await watching;
      return most;
    },
  };
}
