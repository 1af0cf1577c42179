import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { orAborted, whenAborted } from "./abort.ts";

describe("waiting beside a signal", () => {
  test("whenAborted resolves when the signal aborts, and at once where it already has", async () => {
    const controller = new AbortController();
    const waiting = whenAborted(controller.signal);
    controller.abort();
    await waiting;
    await whenAborted(controller.signal);
  });

  test("orAborted gives the result of the work, or its failure", async () => {
    const { signal } = new AbortController();
    expect(await orAborted(Promise.resolve(1), signal)).toBe(1);
    await expect(orAborted(Promise.reject(new Error("broken")), signal)).rejects.toThrow("broken");
  });

  test("orAborted gives null as soon as the signal aborts, and a later failure of the work is ignored", async () => {
    const controller = new AbortController();
    const { promise, reject } = Promise.withResolvers<number>();
    const waiting = orAborted(promise, controller.signal);
    controller.abort();
    expect(await waiting).toBeNull();
    expect(await orAborted(promise, controller.signal)).toBeNull();
    reject(new Error("late"));
  });

  test("orAborted leaves no listener on the signal", async () => {
    const { signal } = new AbortController();
    await orAborted(Promise.resolve(1), signal);
    await orAborted(Promise.reject(new Error("broken")), signal).catch(() => null);
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });
});
