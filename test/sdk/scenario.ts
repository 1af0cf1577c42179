import { randomBytes } from "node:crypto";
import { deviceCertificate } from "../../simulator/testing/device-certificates.ts";
import type { ConnectOptions, Credential, Device, Keys, Registered, Service, Who } from "./ports.ts";
import type { TestHub } from "./test-hub.ts";

export type CredentialKind = "SAS key" | "SAS token" | "X.509 thumbprint" | "X.509 authority";

/** One way in which a device may be connected: a column of the matrix. */
export type DeviceSetup = {
  readonly name: string;
  readonly module: boolean;
  readonly credential: CredentialKind;
  /** Seconds that a token is good for that the SDK renews soon; `null`: this client cannot renew. */
  readonly renewedToken: number | null;
  /** Whether the SDK calls back in the order in which the hub wrote, or from threads that race. */
  readonly inOrder: boolean;
  readonly connect: (who: Who, credential: Credential, options: ConnectOptions) => Promise<Device>;
};

/** An identity that is there, and what its owner knows. */
export type Identity = {
  readonly who: Who;
  readonly keys: Keys;
  readonly credential: Credential;
  /** A client of it, not open yet; it is closed when the scenario is over. */
  readonly client: (credential?: Credential, options?: ConnectOptions) => Promise<Device>;
};

/** What a scenario plays on. */
export type Stage = {
  readonly hub: TestHub;
  readonly service: Service;
  /** A name that nobody else has. */
  readonly name: (what: string) => string;
};

export type DeviceStage = Stage & {
  readonly setup: DeviceSetup;
  readonly register: () => Promise<Identity>;
  /** Registers, and connects. */
  readonly connected: (options?: ConnectOptions) => Promise<Identity & { readonly device: Device }>;
};

export type Scenario<S> = {
  readonly title: string;
  /** Whether what connects can do this at all; `undefined`: everything can. */
  readonly offered?: (setup: DeviceSetup) => boolean;
  readonly play: (stage: S) => Promise<void>;
};

let names = 0;

/** Plays one scenario on a hub that others use at the same time. */
export async function playService(scenario: Scenario<Stage>, hub: TestHub, service: Service): Promise<void> {
  await scenario.play({ hub, service, name: uniqueName });
}

export async function playDevice(
  scenario: Scenario<DeviceStage>,
  hub: TestHub,
  service: Service,
  setup: DeviceSetup,
): Promise<void> {
  const clients: Device[] = [];
  const register = async (): Promise<Identity> => {
    const who: Who = { deviceId: uniqueName("cam"), moduleId: setup.module ? "inference" : null };
    const keys = newKeys();
    const { registered, credential } = await credentialOf(setup.credential, hub, who, keys);
    if (who.moduleId !== null) await service.create({ ...who, moduleId: null }, null);
    await service.create(who, registered);
    const client = async (brought = credential, options: ConnectOptions = { comesBack: false }) => {
      const made = await setup.connect(who, brought, options);
      clients.push(made);
      return made;
    };
    return { who, keys, credential, client };
  };
  const connected = async (options?: ConnectOptions) => {
    const identity = await register();
    const device = await identity.client(undefined, options);
    await device.open();
    return { ...identity, device };
  };
  try {
    await scenario.play({ hub, service, setup, name: uniqueName, register, connected });
  } finally {
    await Promise.all(clients.map((client) => client.close().catch(() => {})));
  }
}

export function newKeys(): Keys {
  const key = () => randomBytes(32).toString("base64");
  return { primaryKey: key(), secondaryKey: key() };
}

function uniqueName(what: string): string {
  names += 1;
  return `${what}-${names}`;
}

async function credentialOf(
  kind: CredentialKind,
  hub: TestHub,
  who: Who,
  keys: Keys,
): Promise<{ readonly registered: Registered; readonly credential: Credential }> {
  switch (kind) {
    case "SAS key":
      return { registered: keys, credential: { kind: "key", key: keys.primaryKey } };
    case "SAS token":
      return { registered: keys, credential: { kind: "token", key: keys.primaryKey, seconds: 3600 } };
    case "X.509 authority": {
      const name = who.moduleId === null ? who.deviceId : `${who.deviceId}/${who.moduleId}`;
      const { cert, key } = await deviceCertificate(name, { by: hub.authority });
      return { registered: "authority", credential: { kind: "certificate", cert, key } };
    }
    case "X.509 thumbprint": {
      const { cert, key, thumbprint } = await deviceCertificate(who.deviceId);
      return {
        registered: { primaryThumbprint: thumbprint },
        credential: { kind: "certificate", cert, key },
      };
    }
  }
}
