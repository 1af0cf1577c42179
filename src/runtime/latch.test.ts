import { expect, test } from "vitest";
import { createLatch } from "./latch.ts";

test("a latch is open for those who waited and for those who come later", async () => {
  const latch = createLatch();
  const { signal } = new AbortController();
  const waiting = latch.opened(signal);
  expect(latch.isOpen()).toBe(false);
  latch.open();
  await waiting;
  await latch.opened(signal);
  expect(latch.isOpen()).toBe(true);
});

test("waiting for a latch ends with the signal", async () => {
  const latch = createLatch();
  const controller = new AbortController();
  const waiting = latch.opened(controller.signal);
  controller.abort();
  await waiting;
  await latch.opened(controller.signal);
  expect(latch.isOpen()).toBe(false);
});
