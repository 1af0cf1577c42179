import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { parse } from "yaml";
import type { JsonObject } from "../../cli/json-pointer.ts";
import { releaseCommand } from "../../cli/release/command.ts";
import { withDefaults } from "../../cli/spec/check.ts";
import { verifyCommand } from "../../cli/verify/command.ts";
import { modelReleaseSpecSchema } from "../../src/api/model-release.ts";
import { BROKEN_SPECS, REPEATED_ITEMS, soundSpec } from "../builders/broken-specs.ts";
import { DESCRIBED_MODELS } from "../builders/verifier/described-models.ts";
import { type ApiClient, createApiClient } from "./api-client.ts";

// What `edgefleet` says of a manifest on a laptop is what the API server will say.

const MODELS = join(import.meta.dirname, "../../examples/models/files/digits");

let api: ApiClient;
beforeAll(async () => {
  api = await createApiClient(inject("kubeconfig"));
});

const RELEASES =
  "/apis/edgefleet.dev/v1alpha1/namespaces/default/modelreleases?fieldValidation=Strict&dryRun=All";
const tryCreate = (manifest: object) => api.post(RELEASES, manifest);
const releaseOf = (spec: JsonObject) => ({
  apiVersion: "edgefleet.dev/v1alpha1",
  kind: "ModelRelease",
  metadata: { name: "digits-2.1.0" },
  spec,
});

async function written(...args: readonly string[]): Promise<JsonObject> {
  let out = "";
  const terminal = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => expect(text).toBe(""),
    colours: false,
    rewrites: false,
  };
  const always = ["new", "--model", "digits", "--version", "2.0"];
  expect(await releaseCommand([...always, ...args], terminal, new AbortController().signal)).toBe(0);
  return parse(out) as JsonObject;
}

test("a manifest that it writes is taken, and nothing in it is unknown or pruned", async () => {
  const variants = [
    "--variant",
    `fp32=${MODELS}/2.0.0/model.onnx`,
    "--variant",
    `small=${MODELS}/2.0.0/model-small.onnx`,
  ];
  const golden = ["--golden", `${MODELS}/golden.npz`, "--minimum-accuracy", "0.9", "--non-finite", "Never"];
  const parity = ["--minimum-agreement", "1", "--parity-cosine-similarity", "0.99"];
  const speed = ["--p95", "20ms", "--threads", "2", "--minimum-throughput", "100", "--determinism", "4"];
  const manifest = await written(
    ...[...variants, ...golden, ...parity, ...speed],
    ...["--device-class", "small=jetson-nano", "--maximum-memory", "64Mi", "--timeout", "2m"],
  );
  const { status, body } = await tryCreate(manifest);
  expect({ status, message: body.message }).toEqual({ status: 201, message: undefined });
  expect(body.spec).toMatchObject(manifest["spec"] as JsonObject);
  expect(body.spec).toEqual(withDefaults(modelReleaseSpecSchema, manifest["spec"] ?? {}));
});

test("of every model that there is, what is written is taken, and the model passes it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "edgefleet-described-"));
  const found: { readonly name: string; readonly statuses: readonly number[]; readonly message: unknown }[] =
    [];
  try {
    for (const [index, [name, bytes]] of DESCRIBED_MODELS.entries()) {
      const model = join(directory, `${index}.onnx`);
      const release = join(directory, `${index}.yaml`);
      await writeFile(model, bytes);
      const about = ["--model", "0100", "--version", "1e3", "--name", `m-${index}`, "-o", release];
      const wrote = await quietly(releaseCommand, "new", model, ...about);
      const verified = await quietly(verifyCommand, model, "--release", release, "-q");
      const { status, body } = await api.postYaml(RELEASES, await readFile(release, "utf8"));
      found.push({ name, statuses: [wrote, verified, status], message: body.message });
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  expect(found).toEqual(
    DESCRIBED_MODELS.map(([name]) => ({ name, statuses: [0, 0, 201], message: undefined })),
  );
}, 300_000);

function quietly(command: typeof releaseCommand, ...args: readonly string[]): Promise<number> {
  const terminal = { out: () => undefined, err: () => undefined, colours: false, rewrites: false };
  return command(args, terminal, new AbortController().signal);
}

test("defaults are those that the API server fills in, and what is empty goes", async () => {
  const checks = {
    golden: null,
    latency: { p95: "1s", samples: null },
    throughput: { minimumPerSecond: 5 },
    determinism: {},
  };
  const spec = { ...soundSpec, verification: checks };
  const { body } = await tryCreate(releaseOf(spec));
  expect(body.spec).toEqual(withDefaults(modelReleaseSpecSchema, spec));
});

describe("a rule that is broken is refused there with the same sentence", () => {
  test("and a sound spec is not", async () => {
    expect((await tryCreate(releaseOf(soundSpec))).status).toBe(201);
  });

  test.each(BROKEN_SPECS)("$rule", async ({ spec, rule }) => {
    const { status, body } = await tryCreate(releaseOf(spec));
    expect(status).toBe(422);
    expect(body.message).toContain(rule);
  });
});

test.each(REPEATED_ITEMS)("what is there twice is refused there too: $what", async ({ spec }) => {
  const { status, body } = await tryCreate(releaseOf(spec));
  expect(status).toBe(422);
  expect(body.message).toContain("Duplicate value");
});
