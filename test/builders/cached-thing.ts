import type { Cached } from "../../src/kube/informer/watch-event.ts";

/** What a test keeps of an object on the API server. */
export type Thing = Cached & { readonly value: string };
export type Raw = {
  readonly metadata: {
    readonly namespace: string;
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
  };
  readonly value: string;
};

export const raw = (name: string, version: number, value = ""): Raw => ({
  metadata: { namespace: "n", name, uid: `uid-${name}`, resourceVersion: String(version) },
  value,
});

export function project(given: unknown): Thing {
  const { metadata, value } = given as Raw;
  const { namespace, name, uid, resourceVersion } = metadata;
  return { key: `${namespace}/${name}`, namespace, uid, resourceVersion, value };
}
