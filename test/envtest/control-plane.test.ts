import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { beforeAll, expect, inject, test } from "vitest";
import { type ApiClient, createApiClient } from "./api-client.ts";

// What tests and the demo rely on beyond a bare API server.

let api: ApiClient;

beforeAll(async () => {
  api = await createApiClient(inject("kubeconfig"));
});

const devices = (namespace: string) => `/apis/edgefleet.dev/v1alpha1/namespaces/${namespace}/edgedevices`;

async function newNamespace(): Promise<string> {
  const { body } = await api.post("/api/v1/namespaces", { metadata: { generateName: "control-plane-" } });
  return body.metadata.name;
}

/** The garbage collector of a real cluster works in real time. */
async function isGone(path: string): Promise<boolean> {
  for (let tries = 0; tries < 300; tries += 1) {
    if ((await api.get(path)).status === 404) return true;
    await sleep(100);
  }
  return false;
}

test("a Secret is collected when the device that owns it is deleted", async () => {
  const namespace = await newNamespace();
  const { body: device } = await api.post(devices(namespace), {
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "EdgeDevice",
    metadata: { name: "cam" },
    spec: { deviceClass: "jetson-nano" },
  });
  const owner = {
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "EdgeDevice",
    name: "cam",
    uid: device.metadata.uid,
  };
  const secrets = `/api/v1/namespaces/${namespace}/secrets`;
  await api.post(secrets, { metadata: { name: "owned", ownerReferences: [owner] } });
  await api.post(secrets, { metadata: { name: "free" } });
  await api.delete(`${devices(namespace)}/cam`);
  expect(await isGone(`${secrets}/owned`)).toBe(true);
  expect((await api.get(`${secrets}/free`)).status).toBe(200);
});

test("a namespace is deleted with all that is in it", async () => {
  const namespace = await newNamespace();
  await api.post(`/api/v1/namespaces/${namespace}/configmaps`, { metadata: { name: "some" } });
  await api.delete(`/api/v1/namespaces/${namespace}`);
  expect(await isGone(`/api/v1/namespaces/${namespace}`)).toBe(true);
});

test("whoever has no rights is refused", async () => {
  const kubectl = promisify(execFile)(inject("kubectl"), [
    ...["--kubeconfig", inject("kubeconfig"), "--as", "system:serviceaccount:default:nobody"],
    ...["get", "edgedevices"],
  ]);
  await expect(kubectl).rejects.toThrow(
    'User "system:serviceaccount:default:nobody" cannot list resource "edgedevices"',
  );
});
