import { readFileSync } from "node:fs";
import { afterAll, expect, inject, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { eventually } from "../../tools/stack/local-stack.ts";
import { deploymentObject, type Fleet, releaseObject, startFleet } from "../e2e/fleet.ts";
import { ACCOUNT, helm, install, startUnderAccount, stopInstalled } from "./installed-chart.ts";

// The operator under the ServiceAccount of the chart, with RBAC enforced: what it was allowed is what it asked for.

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

const fleets: Fleet[] = [];
afterAll(async () => {
  for (const fleet of fleets) await stopInstalled(fleet);
});

test.each([
  { scope: "one namespace", clusterWide: false },
  { scope: "all namespaces", clusterWide: true },
])(
  "with rights in $scope, the operator is refused nothing, and needs every right that it has",
  async ({ clusterWide }) => {
    const fleet = await startFleet("rights", clusterWide ? { clusterWide } : {});
    fleets.push(fleet);
    await install(fleet, clusterWide);
    const operator = await startUnderAccount(fleet);
    await useEverything(fleet);

    const asked = requestsOf(fleet);
    expect([...asked((code) => code === 403)]).toEqual([]);
    expect([...(await allowed(fleet))].sort()).toEqual([...asked(() => true)].sort());
    expect(readFileSync(operator.logFile, "utf8")).not.toContain("Forbidden");
    // The next one would serve the same namespaces, and its chart has the same cluster-wide names.
    await fleet.stack.stopOperator("operator");
    await helm(fleet, "uninstall", "fleet");
  },
  900_000,
);

/** A life in which the operator does everything that it ever asks of the API server. */
async function useEverything(fleet: Fleet): Promise<void> {
  const devices = fleet.deviceObjects(4, (index) =>
    index === 0 ? { connectionSecret: { name: "cam-0-hub" } } : {},
  );
  await fleet.apply(...devices, await releaseObject("digits-1.0.0"), deploymentObject("digits-1.0.0"));
  await fleet.completed("digits-1.0.0");
  // A Secret that was changed is written again at the device's next reconcile.
  const [first] = await fleet.devices();
  const device = first?.metadata.name ?? "";
  const empty = '[{"op":"remove","path":"/data"}]';
  await fleet.kubectl("patch", "secret", "cam-0-hub", "--type=json", "-p", empty);
  await fleet.kubectl("patch", "edev", device, "--type=merge", "-p", '{"spec":{"tags":{"rack":"7"}}}');
  await eventually(
    "the Secret has its data again",
    async () => (await fleet.kubectl("get", "secret", "cam-0-hub", "-o", "jsonpath={.data}")) !== "",
    { within: 60_000 },
  );
  // A device that is deleted takes its finalizer along.
  await fleet.kubectl("delete", "edev", device);
}

/** What the audit log has of this fleet's operator, as `verb group/resource`, by the code of the answer. */
function requestsOf(fleet: Fleet): (wanted: (code: number) => boolean) => ReadonlySet<string> {
  const log = inject("auditLog");
  if (log === null)
    throw new Error("the API server of this test keeps no audit log: unset EDGEFLEET_TEST_KUBECONFIG");
  const events = readFileSync(log, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as AuditEvent)
    .filter(({ user }) => user.username === `system:serviceaccount:${fleet.namespace}:${ACCOUNT}`);
  return (wanted) =>
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
}

/** What the chart's roles allow, as `verb group/resource`. */
async function allowed(fleet: Fleet): Promise<ReadonlySet<string>> {
  const manifest = await helm(fleet, "get", "manifest", "fleet");
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
