import { join } from "node:path";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { parse } from "yaml";
import type { JsonObject } from "../../cli/json-pointer.ts";
import { releaseCommand } from "../../cli/release-command.ts";
import { withDefaults } from "../../cli/spec-check.ts";
import { modelReleaseSpecSchema } from "../../src/api/model-release.ts";
import { BROKEN_SPECS, soundSpec } from "../builders/broken-specs.ts";
import { type ApiClient, createApiClient } from "./api-client.ts";

// What `edgefleet` says of a manifest on a laptop is what the API server will say.

const MODELS = join(import.meta.dirname, "../../examples/models/files/digits");

let api: ApiClient;
beforeAll(async () => {
  api = await createApiClient(inject("kubeconfig"));
});

const tryCreate = (manifest: object) =>
  api.post(
    "/apis/edgefleet.dev/v1alpha1/namespaces/default/modelreleases?fieldValidation=Strict&dryRun=All",
    manifest,
  );
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
