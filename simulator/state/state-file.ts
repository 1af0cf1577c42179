import { chmodSync, closeSync, constants, openSync, readSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import type { JsonObject } from "../base/json.ts";

/** Records in one file, by kind and name. A second simulator cannot open it. */
export type StateFile = {
  /** Nothing was ever written to it. */
  readonly isNew: boolean;
  /** In the order in which they were first made. */
  readonly read: (kind: string) => readonly StoredRecord[];
  /** All or nothing, and outlives the process when it returns; throws where the disk refuses. */
  readonly write: (changes: readonly RecordChange[]) => void;
  readonly close: () => void;
};

export type StoredRecord = { readonly name: string; readonly value: JsonObject };

export type RecordChange = {
  readonly kind: string;
  readonly name: string;
  /** `null`: it is gone. */
  readonly value: object | null;
  /** It goes behind all others, whether or not there was one of that name. */
  readonly recreated: boolean;
};

export type OpenedStateFile =
  | { readonly ok: true; readonly file: StateFile }
  | { readonly ok: false; readonly problem: string };

/** `EFSM`, at its place in the head of an SQLite file: the database of another program is not taken for a state. */
const APPLICATION_ID = 0x4546534d;
const FORMAT = 1;
const MAGIC = "SQLite format 3\0";
const HEAD = { length: 100, format: 60, applicationId: 68 };

/** The log is synced when it is folded into the file. */
const PREPARATIONS = `
  BEGIN EXCLUSIVE;
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${FORMAT};
  CREATE TABLE IF NOT EXISTS record
    (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, UNIQUE (kind, name));
  COMMIT;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  PRAGMA journal_size_limit = ${16 * 1024 * 1024};
`;

/** Opens the file, or makes one that only its owner can read: it holds the keys of devices. */
export function openStateFile(path: string): OpenedStateFile {
  try {
    const strange = problemOfHead(readHead(path));
    if (strange !== null) return { ok: false, problem: `${path} ${strange}` };
    chmodSync(path, 0o600);
    return open(path);
  } catch (problem) {
    return { ok: false, problem: `${path} ${explain(problem)}` };
  }
}

/** The file's first bytes; it is made where there is none. */
function readHead(path: string): Buffer {
  const descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    const head = Buffer.alloc(HEAD.length);
    return head.subarray(0, readSync(descriptor, head, 0, HEAD.length, 0));
  } finally {
    closeSync(descriptor);
  }
}

function problemOfHead(head: Buffer): string | null {
  if (head.length === 0) return null;
  if (head.length < HEAD.length || head.toString("latin1", 0, MAGIC.length) !== MAGIC)
    return "is not a state of the simulator: name another file, or move this one away";
  // A file whose maker was killed while it made it has no format yet.
  const format = head.readUInt32BE(HEAD.format);
  const applicationId = head.readUInt32BE(HEAD.applicationId);
  if (applicationId !== APPLICATION_ID && (applicationId !== 0 || format !== 0))
    return "is the database of another program: name another file";
  if (format > FORMAT)
    return `was written by a newer simulator (format ${format}, this one knows ${FORMAT}): start that one, or name another file`;
  return null;
}

function open(path: string): OpenedStateFile {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    // The lock is held until the process ends, however it ends.
    database.exec("PRAGMA locking_mode = EXCLUSIVE");
    const [checked] = database.prepare("PRAGMA quick_check(1)").all();
    if (checked?.["quick_check"] === "ok") {
      database.exec(PREPARATIONS);
      return { ok: true, file: serve(database) };
    }
    database.close();
    return { ok: false, problem: `${path} ${damaged(String(checked?.["quick_check"]))}` };
  } catch (problem) {
    database.close();
    throw problem;
  }
}

function serve(database: DatabaseSync): StateFile {
  const select = database.prepare("SELECT name, value FROM record WHERE kind = ? ORDER BY id");
  const put = database.prepare(
    "INSERT INTO record (kind, name, value) VALUES (?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value",
  );
  const remove = database.prepare("DELETE FROM record WHERE kind = ? AND name = ?");
  const isNew = database.prepare("SELECT 1 FROM record LIMIT 1").get() === undefined;

  return {
    isNew,
    read: (kind) =>
      select.all(kind).map(({ name, value }) => ({
        name: String(name),
        value: JSON.parse(String(value)) as JsonObject,
      })),
    write(changes) {
      database.exec("BEGIN");
      try {
        for (const { kind, name, value, recreated } of changes) {
          if (value === null || recreated) remove.run(kind, name);
          if (value !== null) put.run(kind, name, JSON.stringify(value));
        }
        database.exec("COMMIT");
      } catch (problem) {
        // A full disk has rolled it back already.
        if (database.isTransaction) database.exec("ROLLBACK");
        throw problem;
      }
    },
    close: () => database.close(),
  };
}

function damaged(how: string): string {
  return `is damaged (${how}): put back a copy of it, or move it away and start with an empty one`;
}

/** What a person can do about it. */
export function explain(problem: unknown): string {
  const {
    message,
    code = "",
    errcode = 0,
  } = problem as NodeJS.ErrnoException & { readonly errcode?: number };
  // The lower byte is the kind of the error in SQLite's list.
  switch (errcode & 0xff) {
    case 5:
      return "is in use by another simulator: stop that one, or name another file";
    case 11:
    case 26:
      return damaged(message);
    case 13:
      return "cannot be written: the disk is full";
    default:
  }
  if (code === "EISDIR") return "is a directory: name a file";
  if (code === "ENOENT") return "cannot be made: its directory is not there";
  if (code === "EACCES" || code === "EPERM" || code === "EROFS") return "cannot be written: access is denied";
  return `cannot be used: ${message}`;
}
