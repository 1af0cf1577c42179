/** What a hub refuses, as it goes over the wire: HTTP status, symbolic name, text, and which of the two body forms. */
export type Refusal = {
  readonly status: number;
  /** Symbolic name: it is the header `iothub-errorcode` too. */
  readonly code: ErrorName;
  readonly message: string;
  /** A for REST operations, B for direct methods and newer paths. */
  readonly form: "A" | "B";
  readonly retryAfterSeconds: number | null;
};

export type Refused = { readonly ok: false; readonly refusal: Refusal };

export type Answer<T> = { readonly ok: true; readonly value: T } | Refused;

/** Symbolic name → HTTP status and six-digit code of the hub. */
const CATALOGUE = {
  GenericBadRequest: [400, 400000],
  InvalidProtocolVersion: [400, 400001],
  InvalidOperation: [400, 400003],
  ArgumentInvalid: [400, 400004],
  ArgumentNull: [400, 400005],
  IotHubFormatError: [400, 400006],
  BlobContainerValidationError: [400, 400008],
  DeviceDefinedMultipleTimes: [400, 400011],
  DeserializationError: [400, 400012],
  BulkRegistryOperationFailure: [400, 400013],
  CannotRegisterModuleToModule: [400, 400301],
  ManagedIdentityNotEnabled: [400, 400004],
  InvalidDeviceScope: [400, 400004],
  InvalidConfigurationContent: [400, 400004],
  InvalidConfigurationTargetCondition: [400, 400004],
  InvalidConfigurationCustomMetricsQuery: [400, 400004],
  CannotModifyImmutableConfigurationContent: [400, 400004],
  IotHubUnauthorizedAccess: [401, 401002],
  IotHubUnauthorized: [401, 401003],
  IotHubQuotaExceeded: [403, 403002],
  JobQuotaExceeded: [403, 403003],
  DeviceMaximumQueueDepthExceeded: [403, 403004],
  OperationNotAvailableInCurrentTier: [403, 403010],
  DeviceNotFound: [404, 404001],
  JobNotFound: [404, 404002],
  ModuleNotFound: [404, 404010],
  ConfigurationNotFound: [404, 404000],
  DeviceNotOnline: [404, 404103],
  ResourceNotFound: [404, 404000],
  MethodNotAllowed: [405, 405001],
  DeviceAlreadyExists: [409, 409001],
  JobAlreadyExists: [409, 409000],
  ConfigurationAlreadyExists: [409, 409000],
  ModuleAlreadyExistsOnDevice: [409, 409301],
  PreconditionFailed: [412, 412001],
  JobRunPreconditionFailed: [412, 412003],
  MessageTooLarge: [413, 413001],
  TooManyDevices: [413, 413002],
  TooManyModulesOnDevice: [413, 413003],
  ConfigurationCountLimitExceeded: [413, 413000],
  ThrottlingException: [429, 429001],
  ThrottlingMaxActiveJobCountExceeded: [429, 429004],
  DeviceThrottlingLimitExceeded: [429, 429005],
  ServerError: [500, 500001],
  BadGateway: [502, 502000],
  ServiceUnavailable: [503, 503001],
  GatewayTimeout: [504, 504101],
} as const satisfies Readonly<Record<string, readonly [number, number]>>;

export type ErrorName = keyof typeof CATALOGUE;

export function ok<T>(value: T): { readonly ok: true; readonly value: T } {
  return { ok: true, value };
}

export function refuse(code: ErrorName, message: string, form: "A" | "B" = "A"): Refused {
  return { ok: false, refusal: { status: CATALOGUE[code][0], code, message, form, retryAfterSeconds: null } };
}

/** Six digits. */
export function codeOf(code: ErrorName): number {
  return CATALOGUE[code][1];
}

/** The name that goes with a bare status: what an injected fault answers with. */
export function nameOfStatus(status: number): ErrorName {
  const names: Readonly<Record<number, ErrorName>> = {
    400: "ArgumentInvalid",
    401: "IotHubUnauthorized",
    403: "IotHubQuotaExceeded",
    404: "DeviceNotFound",
    409: "DeviceAlreadyExists",
    412: "PreconditionFailed",
    413: "MessageTooLarge",
    429: "ThrottlingException",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
  };
  return names[status] ?? "ServerError";
}

/**
 * The body of a refusal. Form A: `{Message: "ErrorCode:<Name>;<text>", ExceptionMessage: "Tracking ID:…"}`;
 * form B: `Message` is itself JSON text with the six-digit code. Source: error answers quoted in issues of the SDKs.
 */
export function errorBody(refusal: Refusal, trackingId: string, at: Date): string {
  if (refusal.form === "B")
    return JSON.stringify({ Message: errorDetail(refusal, trackingId, at), ExceptionMessage: "" });
  return JSON.stringify({
    Message: `ErrorCode:${refusal.code};${refusal.message}`,
    ExceptionMessage: `Tracking ID:${trackingId}-G:0-TimeStamp:${usTime(at)}`,
  });
}

/** JSON text with the six-digit code: the inner part of form B, and the whole body of a refusal to a device. */
export function errorDetail(refusal: Refusal, trackingId: string, at: Date): string {
  return JSON.stringify({
    errorCode: CATALOGUE[refusal.code][1],
    trackingId: `${trackingId}-G:0-TimeStamp:${usTime(at)}`,
    message: refusal.message,
    timestampUtc: at.toISOString(),
  });
}

/** `MM/dd/yyyy HH:mm:ss`, as the hub writes it. */
function usTime(at: Date): string {
  const iso = at.toISOString();
  return `${iso.slice(5, 7)}/${iso.slice(8, 10)}/${iso.slice(0, 4)} ${iso.slice(11, 19)}`;
}
