import { err, ok } from "../../src/base/result.ts";
import type { Secret, Secrets } from "../../src/kube/kube.ts";
import { type Calls, createCalls } from "./calls.ts";

export type FakeSecrets = Secrets & {
  readonly put: (secret: Secret) => void;
  readonly read: (namespace: string, name: string) => Secret | undefined;
  readonly all: () => readonly Secret[];
};

export function createFakeSecrets(calls: Calls = createCalls()): FakeSecrets {
  const secrets = new Map<string, Secret>();
  const keyOf = (namespace: string, name: string) => `${namespace}/${name}`;
  return {
    get: (namespace, name) => calls.run("secrets.get", () => ok(secrets.get(keyOf(namespace, name)) ?? null)),
    apply: (owner, secret) =>
      calls.run("secrets.apply", () => {
        const key = keyOf(secret.namespace, secret.name);
        const had = secrets.get(key);
        if (had !== undefined && had.ownerUid !== owner.uid)
          return err({ kind: "conflict", message: `Secret ${key} has another owner` });
        secrets.set(key, { ...secret, ownerUid: owner.uid });
        return ok(undefined);
      }),
    put: (secret) => void secrets.set(keyOf(secret.namespace, secret.name), secret),
    read: (namespace, name) => secrets.get(keyOf(namespace, name)),
    all: () => [...secrets.values()],
  };
}
