import { expect, test } from "vitest";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import { createFakeTransport } from "../../test/fakes/fake-transport.ts";
import { err, ok } from "../base/result.ts";
import { seconds } from "../base/time.ts";
import { clusterIdOf } from "./cluster-id.ts";

const never = new AbortController().signal;
const deps = () => ({ clock: createFakeClock(), log: createFakeLog() });

test("the id of a cluster is the uid of kube-system, read again until the API server answers", async () => {
  const { clock, log } = deps();
  const paths: string[] = [];
  const transport = createFakeTransport(async ({ path }) => {
    paths.push(path);
    return paths.length < 3
      ? err({ kind: "unavailable" as const, message: "no route" })
      : ok({ metadata: { uid: "u-1" } });
  });
  const asked = clusterIdOf(transport, { clock, log }, never);
  await clock.advance(seconds(10));
  expect(await asked).toBe("u-1");
  expect(paths).toEqual(Array.from({ length: 3 }, () => "/api/v1/namespaces/kube-system"));
});

test("without the right to read it, the error names the setting that helps", async () => {
  const transport = createFakeTransport(async () => err({ kind: "denied" as const, message: "forbidden" }));
  await expect(clusterIdOf(transport, deps(), never)).rejects.toThrow("--cluster-id");
});

test("an operator that is stopped meanwhile has no id", async () => {
  const stop = new AbortController();
  const { clock, log } = deps();
  const transport = createFakeTransport(async () =>
    err({ kind: "unavailable" as const, message: "no route" }),
  );
  const asked = clusterIdOf(transport, { clock, log }, stop.signal);
  await clock.settle();
  stop.abort();
  expect(await asked).toBeNull();
});
