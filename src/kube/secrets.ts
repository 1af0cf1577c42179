import { GROUP, VERSION } from "../api/resource.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import { own } from "../base/lookup.ts";
import { err, ok, type Result, unreachable } from "../base/result.ts";
import type { Secret, Secrets } from "./kube.ts";
import { FIELD_MANAGER, JSON_PATCH, type KubeFault } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

type OwnerReference = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
};
type RawSecret = {
  readonly metadata: {
    readonly resourceVersion: string;
    readonly ownerReferences?: readonly OwnerReference[];
  };
  readonly data?: Readonly<Record<string, string>>;
};
type Owner = Parameters<Secrets["apply"]>[0];
type Wanted = Parameters<Secrets["apply"]>[1];

/** Secrets are read when they are needed and never cached: the operator must not hold all Secrets of a cluster. */
export function createSecrets(transport: Transport): Secrets {
  async function read(
    namespace: string,
    name: string,
    signal: AbortSignal,
  ): Promise<Result<RawSecret | null, Fault>> {
    const answer = await transport.call({ method: "GET", path: pathOf(namespace, name) }, signal);
    if (answer.ok) return ok(answer.value as RawSecret);
    return answer.error.kind === "missing" ? ok(null) : err(discreet(answer.error, namespace, name));
  }

  async function create(owner: Owner, wanted: Wanted, signal: AbortSignal): Attempt<void> {
    const body = {
      apiVersion: "v1",
      kind: "Secret",
      type: "Opaque",
      metadata: {
        name: wanted.name,
        namespace: wanted.namespace,
        labels: { "app.kubernetes.io/managed-by": FIELD_MANAGER },
        ownerReferences: [
          {
            apiVersion: `${GROUP}/${VERSION}`,
            kind: owner.kind,
            name: owner.name,
            uid: owner.uid,
            controller: true,
            blockOwnerDeletion: false,
          },
        ],
      },
      data: encoded(wanted.data),
    };
    const path = `${pathOf(wanted.namespace)}?fieldManager=${FIELD_MANAGER}`;
    const answer = await transport.call({ method: "POST", path, body }, signal);
    return answer.ok ? ok(undefined) : err(discreet(answer.error, wanted.namespace, wanted.name));
  }

  async function replace(had: RawSecret, wanted: Wanted, signal: AbortSignal): Attempt<void> {
    const data = encoded(wanted.data);
    if (sameData(had.data ?? {}, data)) return ok(undefined);
    const answer = await transport.call(
      {
        method: "PATCH",
        path: `${pathOf(wanted.namespace, wanted.name)}?fieldManager=${FIELD_MANAGER}`,
        contentType: JSON_PATCH,
        body: [
          { op: "test", path: "/metadata/resourceVersion", value: had.metadata.resourceVersion },
          { op: "add", path: "/data", value: data },
        ],
      },
      signal,
    );
    return answer.ok ? ok(undefined) : err(discreet(answer.error, wanted.namespace, wanted.name));
  }

  return {
    get: async (namespace, name, signal) => {
      const found = await read(namespace, name, signal);
      if (!found.ok) return found;
      return ok(found.value === null ? null : secretOf(namespace, name, found.value));
    },
    apply: async (owner, wanted, signal) => {
      const found = await read(wanted.namespace, wanted.name, signal);
      if (!found.ok) return found;
      if (found.value === null) return create(owner, wanted, signal);
      const refusal = ownershipFault(owner, wanted, controllerOf(found.value));
      return refusal === null ? replace(found.value, wanted, signal) : err(refusal);
    },
  };
}

/** `null`: the Secret belongs to the owner. */
function ownershipFault(owner: Owner, wanted: Wanted, controller: OwnerReference | undefined): Fault | null {
  if (controller?.uid === owner.uid) return null;
  const secret = `Secret ${wanted.namespace}/${wanted.name}`;
  // The garbage collector takes it away soon; then there is room for a new one.
  if (controller?.kind === owner.kind && controller.name === owner.name)
    return {
      kind: "conflict",
      message: `${secret} still belongs to a deleted ${owner.kind} of the same name`,
    };
  const whose =
    controller === undefined ? "exists and has no owner" : `belongs to ${controller.kind} ${controller.name}`;
  return {
    kind: "rejected",
    message: `${secret} ${whose}; it is not overwritten. Choose another name, or delete that Secret`,
  };
}

function controllerOf(secret: RawSecret): OwnerReference | undefined {
  return secret.metadata.ownerReferences?.find((owner) => owner.controller === true);
}

function secretOf(namespace: string, name: string, raw: RawSecret): Secret {
  const data = Object.entries(raw.data ?? {}).map(([key, value]) => [
    key,
    Buffer.from(value, "base64").toString("utf8"),
  ]);
  return { namespace, name, data: Object.fromEntries(data), ownerUid: controllerOf(raw)?.uid ?? null };
}

function encoded(data: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")]),
  );
}

function sameData(one: Readonly<Record<string, string>>, other: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => own(one, key) === own(other, key));
}

/** The API server quotes what it refuses, and that is a secret here: its message is left out. */
function discreet(fault: KubeFault, namespace: string, name: string): Fault {
  const secret = `Secret ${namespace}/${name}`;
  switch (fault.kind) {
    case "throttled":
      return { ...fault, message: `${secret}: the API server asks for a later retry` };
    case "conflict":
    case "missing":
      return { kind: "conflict", message: `${secret} was changed by another client meanwhile` };
    case "denied":
      return {
        kind: "denied",
        message: `${secret}: the API server denies access; check the operator's Role`,
      };
    case "rejected":
      return { kind: "rejected", message: `${secret} was refused by the API server` };
    case "expired":
    case "unavailable":
      return { kind: "unavailable", message: `${secret}: the API server did not answer` };
    default:
      return unreachable(fault);
  }
}

function pathOf(namespace: string, name?: string): string {
  const all = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`;
  return name === undefined ? all : `${all}/${encodeURIComponent(name)}`;
}
