/** An event that is held; `Event` is what it looks like. */
export type Held<Source, Event> = {
  readonly sequenceNumber: number;
  readonly deviceId: string;
  readonly source: Source;
  readonly bytes: number;
  /** Most events are never read: what they look like is worked out when they are. */
  readonly show: () => Event;
};

/** Of each source: changes of ten thousand twins do not drive out what devices send. */
const MOST_EVENTS = 2000;
const MOST_BYTES = 16 * 1024 * 1024;
const SWEEP = 256;

/** The newest events of one source. */
export type Ring<Source, Event> = {
  readonly push: (held: Held<Source, Event>) => void;
  readonly held: () => readonly Held<Source, Event>[];
  /** Sequence number from which on nothing was dropped. */
  readonly oldest: () => number;
  readonly resume: (from: number) => void;
};

export function createRing<Source, Event>(): Ring<Source, Event> {
  let held: Held<Source, Event>[] = [];
  let start = 0;
  let bytes = 0;
  let oldest = 1;

  return {
    push(next) {
      held.push(next);
      bytes += next.bytes;
      while (held.length - start > MOST_EVENTS || bytes > MOST_BYTES) {
        const dropped = held[start];
        if (dropped === undefined) break;
        bytes -= dropped.bytes;
        oldest = dropped.sequenceNumber + 1;
        start += 1;
      }
      // The space of what was dropped is given back now and then, not at every event.
      if (start >= SWEEP) {
        held = held.slice(start);
        start = 0;
      }
    },
    held: () => held.slice(start),
    oldest: () => oldest,
    resume: (from) => {
      oldest = from;
    },
  };
}
