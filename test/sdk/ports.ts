// What a user of an IoT Hub does with the vendor's SDKs, whatever their language. Each SDK is behind an adapter that
// calls it and translates names and nothing else: no retries, no waiting, no repairs.

export type Json = { readonly [name: string]: unknown };

/** A device, or one of its modules. */
export type Who = { readonly deviceId: string; readonly moduleId: string | null };

export type Keys = { readonly primaryKey: string; readonly secondaryKey: string };

/** What an identity proves itself with, as the service registers it. `null`: keys that the hub makes. */
export type Registered = Keys | { readonly primaryThumbprint: string } | "authority" | null;

/** What a client brings to prove who it is. `seconds` is how long a token is good for; a key makes its own tokens. */
export type Credential =
  | { readonly kind: "key"; readonly key: string; readonly seconds?: number }
  | { readonly kind: "token"; readonly key: string; readonly seconds: number }
  | { readonly kind: "certificate"; readonly cert: string; readonly key: string };

export type Message = {
  readonly body: string;
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly properties?: Readonly<Record<string, string>>;
};

export type MethodResponse = { readonly status: number; readonly payload: unknown };

/** What has come in at a client, in order. */
export type Heard = {
  readonly desired: readonly Json[];
  readonly messages: readonly Message[];
  /** Whether it lost its connection and does not try to come back. */
  readonly lost: boolean;
};

/** A client of the device SDK. */
export type Device = {
  /** Rejects with an error whose `unauthorized` tells whether the hub did not let it in. */
  readonly open: () => Promise<void>;
  readonly close: () => Promise<void>;
  readonly twin: () => Promise<{ readonly desired: Json; readonly reported: Json }>;
  readonly report: (patch: Json) => Promise<void>;
  readonly send: (message: Message) => Promise<void>;
  readonly listenToDesired: () => Promise<void>;
  readonly listenToMessages: () => Promise<void>;
  /** `null`: the device takes the call and never answers it. */
  readonly answer: (method: string, how: (payload: unknown) => MethodResponse | null) => Promise<void>;
  readonly heard: Heard;
};

/** `comesBack`: the SDK connects again by itself when the connection is lost, as it does by default. */
export type ConnectOptions = { readonly comesBack: boolean };

export type Unauthorized = Error & { readonly unauthorized: boolean };

export type MethodCall = {
  readonly method: string;
  readonly payload?: unknown;
  readonly responseTimeoutInSeconds?: number;
  readonly connectTimeoutInSeconds?: number;
};

export type BulkResult = {
  readonly isSuccessful: boolean;
  readonly errors: readonly { readonly deviceId: string; readonly errorStatus: string }[];
};

/** What the service refuses: HTTP status, and the symbolic name of the reason. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string) {
    super(`the hub answers ${status} ${code}`);
    this.status = status;
    this.code = code;
  }
}

export type Configuration = {
  readonly id: string;
  readonly content: Json;
  readonly targetCondition: string;
  readonly priority: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly metrics?: Json;
  readonly systemMetrics?: Json;
  readonly etag?: string;
};

/** A client of the service SDK. Documents are as the REST interface has them; refusals are `Refused`. */
export type Service = {
  readonly create: (who: Who, registered: Registered, more?: { readonly iotEdge: boolean }) => Promise<Json>;
  readonly get: (who: Who) => Promise<Json>;
  /** Everything else of the identity stays as it is. */
  readonly setStatus: (deviceId: string, status: "enabled" | "disabled") => Promise<Json>;
  readonly setKeys: (who: Who, keys: Keys) => Promise<Json>;
  readonly delete: (who: Who) => Promise<void>;
  readonly modules: (deviceId: string) => Promise<readonly Json[]>;
  /** Creates devices with keys of the hub's making. */
  readonly createMany: (deviceIds: readonly string[]) => Promise<BulkResult>;
  readonly deleteMany: (deviceIds: readonly string[]) => Promise<BulkResult>;
  readonly twin: (who: Who) => Promise<Json>;
  /** `etag` `*`: whatever it is. */
  readonly patchTwin: (who: Who, patch: Json, etag: string) => Promise<Json>;
  readonly invoke: (who: Who, call: MethodCall) => Promise<MethodResponse>;
  /** All pages, one after the other. */
  readonly query: (sql: string, pageSize: number) => Promise<readonly (readonly Json[])[]>;
  readonly statistics: () => Promise<Json>;
  readonly createConfiguration: (configuration: Configuration) => Promise<Configuration>;
  readonly configuration: (id: string) => Promise<Configuration>;
  readonly configurations: () => Promise<readonly Configuration[]>;
  /** Under the etag that the configuration carries. */
  readonly updateConfiguration: (configuration: Configuration) => Promise<Configuration>;
  readonly deleteConfiguration: (id: string) => Promise<void>;
  readonly applyContent: (deviceId: string, modulesContent: Json) => Promise<void>;
};
