import type { JsonObject } from "../base/json.ts";
import { type TwinKey, twinKey } from "../hub/twins/twin.ts";

/** `cut`: the line broke, and the device may come back. */
export type ClosedBecause = "displaced" | "disabled" | "removed" | "cut";

/** Shared by all sessions of one kind; `subject` says whose it is, so that no session needs closures of its own. */
export type Listener<Subject> = {
  /** A patch of the desired properties, and their version after it. */
  readonly desired: (subject: Subject, patch: JsonObject, version: number) => void;
  readonly closed: (subject: Subject, because: ClosedBecause) => void;
  /** The client that displaced the subject is gone too: it may connect again. Without it a subject stays away. */
  readonly vacant?: (subject: Subject) => void;
};

/** The identity of a device (`moduleId` is `null`) or of a module. */
export type SessionIdentity = { readonly deviceId: string; readonly moduleId: string | null };

export type Session = SessionIdentity & { readonly key: TwinKey };

type OpenSession = Session & {
  readonly desired: (patch: JsonObject, version: number) => void;
  readonly closed: (because: ClosedBecause) => void;
  readonly vacant: (() => void) | null;
  /** Whether a desired patch was lost on its way. */
  lost: boolean;
};

/** The sessions that are open, one for each identity at most. */
export type DeviceSessions = {
  readonly get: (key: TwinKey) => OpenSession | undefined;
  /** Displaces the session that the identity has. */
  readonly open: <Subject>(
    identity: SessionIdentity,
    listener: Listener<Subject>,
    subject: Subject,
  ) => OpenSession;
  /** Ends a session from the hub's side; its listener is notified. */
  readonly drop: (key: TwinKey, because: ClosedBecause) => void;
  readonly dropAll: (because: ClosedBecause) => void;
  /** Ends the session of an identity that no longer exists. */
  readonly remove: (key: TwinKey) => void;
  /** Ends a session from the client's side; idempotent. */
  readonly close: (session: Session) => void;
};

export function createDeviceSessions(
  noteConnection: (key: TwinKey, connected: boolean) => void,
): DeviceSessions {
  const open = new Map<TwinKey, OpenSession>();
  /** What lets the displaced client of an identity return. */
  const displaced = new Map<TwinKey, () => void>();

  function drop(key: TwinKey, because: ClosedBecause): void {
    const session = open.get(key);
    if (session === undefined) return;
    open.delete(key);
    if (because !== "removed") noteConnection(key, false);
    if (because === "displaced" && session.vacant !== null) displaced.set(key, session.vacant);
    session.closed(because);
    if (because === "disabled") displaced.get(key)?.();
  }

  return {
    get: (key) => open.get(key),

    open({ deviceId, moduleId }, listener, subject) {
      const key = twinKey(deviceId, moduleId);
      drop(key, "displaced");
      const session: OpenSession = {
        deviceId,
        moduleId,
        key,
        desired: (patch, version) => listener.desired(subject, patch, version),
        closed: (because) => listener.closed(subject, because),
        vacant: listener.vacant === undefined ? null : () => listener.vacant?.(subject),
        lost: false,
      };
      open.set(key, session);
      if (session.vacant !== null) displaced.delete(key);
      noteConnection(key, true);
      return session;
    },

    drop,
    dropAll: (because) => {
      for (const key of [...open.keys()]) drop(key, because);
    },
    remove: (key) => {
      displaced.delete(key);
      drop(key, "removed");
    },

    close({ key }) {
      open.delete(key);
      noteConnection(key, false);
      displaced.get(key)?.();
    },
  };
}
