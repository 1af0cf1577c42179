import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, type Operator } from "../../tools/stack/local-stack.ts";
import { type Fleet, startFleet } from "../e2e/fleet.ts";
import { accountKubeconfig } from "./account-kubeconfig.ts";

// What an operator says that was installed without something it needs: in its log, and to whoever asks /readyz.

const CRD = "crd/inferencedeployments.edgefleet.dev";
const CRDS = join(import.meta.dirname, "../../crds");
let fleet: Fleet;

beforeAll(async () => {
  fleet = await startFleet("not-ready");
});
afterAll(() => fleet.stop());

async function readiness({ probePort }: Operator): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${probePort}/readyz`);
  return `${answer.status} ${await answer.text()}`;
}

const says = (operator: Operator, expected: RegExp) =>
  eventually(
    `/readyz says ${expected}`,
    async () => {
      const text = await readiness(operator);
      if (!expected.test(text)) throw new Error(text);
      return text;
    },
    { within: 60_000 },
  );

test("without its roles the operator keeps running, says which right is missing, and is ready once it has them", async () => {
  await fleet.kubectl("create", "serviceaccount", "bare");
  const token = await fleet.kubectl("create", "token", "bare", "--duration", "1h");
  const kubeconfig = join(fleet.stack.directory, "bare.kubeconfig");
  writeFileSync(kubeconfig, accountKubeconfig(token.trim()), { mode: 0o600 });
  const operator = await fleet.startOperator("bare", ["--kubeconfig", kubeconfig]);
  await says(
    operator,
    /^503 not ready: the id of the cluster cannot be read .*; allow "get" on the namespace kube-system, or give --cluster-id; .*not listed yet: EdgeDevices \(.*cannot list resource/,
  );
  expect(
    readFileSync(operator.logFile, "utf8").match(/allow \\"get\\" on the namespace kube-system/g),
  ).toHaveLength(1);

  const binding = `bare-${fleet.namespace}`;
  const account = `--serviceaccount=${fleet.namespace}:bare`;
  await fleet.kubectl("create", "clusterrolebinding", binding, "--clusterrole=cluster-admin", account);
  await says(operator, /^200 ok/);
  expect(operator.exit()).toBeNull();
  await fleet.kubectl("delete", "clusterrolebinding", binding);
  await fleet.stack.stopOperator("bare");
});

test("with definitions of another version it does not lead, names the fields, and is ready once they are there", async () => {
  const definition = await fleet.kubectl("get", CRD, "-o", "json");
  const older = JSON.parse(definition) as {
    readonly spec: {
      readonly versions: {
        readonly schema: {
          readonly openAPIV3Schema: {
            readonly properties: { readonly status: { readonly properties: Record<string, unknown> } };
          };
        };
      }[];
    };
  };
  delete older.spec.versions[0]?.schema.openAPIV3Schema.properties.status.properties["quarantinedReleases"];
  const file = join(fleet.stack.directory, "older.json");
  writeFileSync(file, JSON.stringify(older));
  await fleet.kubectl("replace", "-f", file);
  let operator: Operator;
  try {
    await eventually(
      "the API server serves the older definition",
      async () =>
        !(await fleet.kubectl("get", "--raw", "/openapi/v3/apis/edgefleet.dev/v1alpha1")).includes(
          '"quarantinedReleases"',
        ),
      { within: 30_000 },
    );
    operator = await fleet.startOperator("older");
    await says(
      operator,
      /^503 .*of another version and lack InferenceDeployment\.status\.quarantinedReleases; apply/,
    );
    expect(operator.exit()).toBeNull();
  } finally {
    await fleet.kubectl("replace", "-f", join(CRDS, "edgefleet.dev_inferencedeployments.yaml"));
  }
  await says(operator, /^200 ok/);
});
