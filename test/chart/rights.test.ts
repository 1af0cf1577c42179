import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { KubeConfig } from "@kubernetes/client-node";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { chartTool } from "../../tools/go/chart-tools.ts";
import { eventually } from "../../tools/stack/local-stack.ts";
import { deploymentObject, type Fleet, releaseObject, startFleet } from "../e2e/fleet.ts";

// The operator under the ServiceAccount of the chart, with RBAC enforced: what it was allowed is what it asked for.

const ROOT = join(import.meta.dirname, "..", "..");
const CHART = join(ROOT, "charts/edge-fleet-operator");
const run = promisify(execFile);

type Rule = {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
};
type AuditEvent = {
  readonly verb: string;
  readonly user: { readonly username: string };
  readonly objectRef?: {
    readonly apiGroup?: string;
    readonly resource: string;
    readonly subresource?: string;
  };
  readonly responseStatus?: { readonly code: number };
};

let fleet: Fleet;
let helm: (...args: readonly string[]) => Promise<string>;

beforeAll(async () => {
  fleet = await startFleet("rights");
  const path = await chartTool("helm");
  helm = async (...args) => {
    const { stdout } = await run(path, [
      ...args,
      "-n",
      fleet.namespace,
      "--kubeconfig",
      inject("kubeconfig"),
    ]);
    return stdout;
  };
  await helm(
    ...["install", "fleet", CHART, "-f", join(CHART, "ci/connection-strings-values.yaml")],
    // The definitions are there; and a namespace that grants itself what it needs, so that grants are read.
    ...["--set", `crds.create=false,watchNamespaces={${fleet.namespace}},tenancy=annotated`],
  );
  await fleet.kubectl(
    ...[
      "annotate",
      "namespace",
      fleet.namespace,
      "edgefleet.dev/blob-prefixes=*",
      "edgefleet.dev/device-ids=*",
    ],
  );
}, 900_000);
afterAll(() => fleet.stop());

test("the operator works under the chart's ServiceAccount, is refused nothing, and needs every right that it has", async () => {
  const account = "fleet-edge-fleet-operator";
  const token = await fleet.kubectl("create", "token", account, "--duration", "1h");
  const kubeconfig = join(fleet.stack.directory, "account.kubeconfig");
  writeFileSync(kubeconfig, kubeconfigWith(token.trim()), { mode: 0o600 });
  const operator = await fleet.startOperator("operator", [
    "--kubeconfig",
    kubeconfig,
    "--tenancy",
    "annotated",
  ]);

  const devices = fleet.deviceObjects(4, (index) =>
    index === 0 ? { connectionSecret: { name: "cam-0-hub" } } : {},
  );
  await fleet.apply(...devices, await releaseObject("digits-1.0.0"), deploymentObject("digits-1.0.0"));
  await fleet.completed("digits-1.0.0");
  // A Secret that was changed is written again at the device's next reconcile.
  const [first] = await fleet.devices();
  const device = first?.metadata.name ?? "";
  await fleet.kubectl(
    "patch",
    "secret",
    "cam-0-hub",
    "--type=json",
    "-p",
    '[{"op":"remove","path":"/data"}]',
  );
  await fleet.kubectl("patch", "edev", device, "--type=merge", "-p", '{"spec":{"tags":{"rack":"7"}}}');
  await eventually(
    "the Secret has its data again",
    async () => (await fleet.kubectl("get", "secret", "cam-0-hub", "-o", "jsonpath={.data}")) !== "",
    { within: 60_000 },
  );
  // A device that is deleted takes its finalizer along.
  await fleet.kubectl("delete", "edev", device);

  const log = inject("auditLog");
  if (log === null)
    throw new Error("the API server of this test keeps no audit log: unset EDGEFLEET_TEST_KUBECONFIG");
  const events = readFileSync(log, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as AuditEvent)
    .filter(({ user }) => user.username === `system:serviceaccount:${fleet.namespace}:${account}`);
  const asked = (wanted: (code: number) => boolean) =>
    new Set(
      events
        .filter(
          ({ objectRef, responseStatus }) => objectRef !== undefined && wanted(responseStatus?.code ?? 0),
        )
        .map(({ verb, objectRef }) => {
          const { apiGroup = "", resource, subresource } = objectRef ?? { resource: "" };
          return `${verb} ${apiGroup}/${resource}${subresource === undefined ? "" : `/${subresource}`}`;
        }),
    );
  expect([...asked((code) => code === 403)]).toEqual([]);
  expect([...(await allowed())].sort()).toEqual([...asked(() => true)].sort());
  expect(readFileSync(operator.logFile, "utf8")).not.toContain("Forbidden");
});

/** What the chart's roles allow, as `verb group/resource`. */
async function allowed(): Promise<ReadonlySet<string>> {
  const manifest = await helm("get", "manifest", "fleet");
  const roles = parseAllDocuments(manifest)
    .map(
      (document) =>
        document.toJS() as {
          readonly kind: string;
          readonly metadata: { readonly name: string };
          readonly rules?: readonly Rule[];
        },
    )
    // Rights of people are not the operator's.
    .filter(({ metadata }) => !/-(view|edit)$/.test(metadata.name));
  return new Set(
    roles
      .flatMap(({ rules = [] }) => rules)
      .flatMap(({ apiGroups, resources, verbs }) =>
        apiGroups.flatMap((group) =>
          resources.flatMap((resource) => verbs.map((verb) => `${verb} ${group}/${resource}`)),
        ),
      ),
  );
}

function kubeconfigWith(token: string): string {
  const config = new KubeConfig();
  config.loadFromFile(inject("kubeconfig"));
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error("no context in the kubeconfig");
  const mine = new KubeConfig();
  mine.loadFromClusterAndUser(cluster, { name: "account", token });
  return mine.exportConfig();
}
