import fc from "fast-check";
import { expect, test } from "vitest";
import { frameOf, frameReader } from "./framing.ts";

function readAll(bytes: Buffer, cuts: readonly number[], longest = 1_000_000) {
  const values: unknown[] = [];
  const read = frameReader(longest, (value) => values.push(value));
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let from = 0;
  for (const to of ends) {
    const wrong = read(bytes.subarray(from, to));
    if (wrong !== null) return { values, wrong };
    from = to;
  }
  return { values, wrong: null };
}

test("values arrive whole and in order, however the pipe cuts them", () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.string(), fc.float64Array({ maxLength: 9 }), fc.record({ a: fc.double() }))),
      fc.array(fc.nat(), { maxLength: 20 }),
      (values, cuts) => {
        expect(readAll(Buffer.concat(values.map(frameOf)), cuts)).toEqual({ values, wrong: null });
      },
    ),
  );
});

test("a value that is too long is refused by its head alone, before any of it is kept", () => {
  const head = Buffer.from("ffffffff", "hex");
  expect(readAll(head, [], 64)).toEqual({ values: [], wrong: "a message of 4294967295 bytes, more than 64" });
  expect(readAll(frameOf("x".repeat(100)), [], 64).wrong).toMatch(/^a message of 1\d\d bytes, more than 64$/);
});

test("bytes that are no value are refused, whatever they are", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
      const head = Buffer.alloc(4);
      head.writeUInt32BE(body.length);
      const { values, wrong } = readAll(Buffer.concat([head, body]), []);
      expect(wrong === null ? values.length : wrong).toEqual(wrong === null ? 1 : "a message cannot be read");
    }),
  );
});
