import { readSync } from "node:fs";

/** Bytes that are looked at here and there, without having them all in memory. */
export type ByteSource = {
  readonly length: number;
  /** 0 beyond the end. */
  readonly at: (position: number) => number;
  /** A copy, at most as long as the window of a file. */
  readonly slice: (from: number, to: number) => Uint8Array;
};

const WINDOW = 64 * 1024;

export function bytesIn(bytes: Uint8Array): ByteSource {
  return {
    length: bytes.length,
    at: (position) => bytes[position] ?? 0,
    slice: (from, to) => bytes.slice(from, to),
  };
}

/** An open file: one window of it is in memory, wherever it was looked at last. */
export function bytesInFile(descriptor: number, length: number): ByteSource {
  const window = new Uint8Array(WINDOW);
  let start = 0;
  let end = 0;

  function moveTo(position: number): void {
    start = position;
    end = position + readSync(descriptor, window, 0, WINDOW, position);
  }

  return {
    length,
    at: (position) => {
      if (position < start || position >= end) moveTo(position);
      return position < end ? (window[position - start] ?? 0) : 0;
    },
    slice: (from, to) => {
      if (from < start || to > end) moveTo(from);
      return window.slice(from - start, Math.min(to, end) - start);
    },
  };
}
