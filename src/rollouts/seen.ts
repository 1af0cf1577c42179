import type { InferenceReport } from "../api/device-contract.ts";
import type { InferenceDeployment } from "../api/inference-deployment.ts";
import type { ModelRelease } from "../api/model-release.ts";
import type { Grant } from "../api/tenancy.ts";
import type { Fault } from "../base/fault.ts";
import type { Dictionary } from "../base/lookup.ts";
import type { Instant, Millis } from "../base/time.ts";
import type { Configuration, PointerRow } from "../hub/hub.ts";

// A frozen picture of the world at `now`: a decision never looks anywhere else. observe.ts takes it.

export type Track = "stable" | "candidate";

/** A device that the selector picks, whose identity belongs to the EdgeDevice that was picked, and that no other deployment wants for the same module. */
export type Member = {
  readonly device: string;
  readonly site: string | undefined;
  readonly deviceClass: string;
  readonly iotEdge: boolean;
  readonly bucket: number;
  /** Whether its twin carries our tag, so that target conditions find it. */
  readonly tagged: boolean;
  /** Whether its tags name this cluster, as those that an older version wrote do not. */
  readonly namesCluster: boolean;
  readonly pointer: PointerRow | null;
  readonly report: InferenceReport | null;
  /** When its report was heard, by our clock; `null`: it has never reported. */
  readonly heardAt: Instant | null;
  /** Whether the hub lets the device connect. */
  readonly enabled: boolean;
  /**
   * Why its report cannot be true, and since when that has been so without a break; `null`: it can. Such a report is no
   * evidence. Looked at only while a candidate is under way.
   */
  readonly implausible: { readonly why: string; readonly since: Instant } | null;
};

/** A device that is not a member and still has our tag or our pointer (or had, where the deployment is being deleted). */
export type StaleDevice = {
  readonly device: string;
  readonly deviceClass: string | null;
  readonly iotEdge: boolean;
  readonly tagged: boolean;
  readonly namesCluster: boolean;
  readonly pointer: PointerRow | null;
  /** Whether its EdgeDevice is being deleted: devices/ decides what becomes of its pointer. */
  readonly leaving: boolean;
  /** Deployments that select the device for the same place: what runs is handed over to them. */
  readonly heirs: readonly string[];
};

/** The stable release and the candidate of another deployment of the namespace. */
export type Predecessor = { readonly stable: string | null; readonly candidate: string | null };

/** A device that another deployment selects too: neither moves it. */
export type Contested = {
  readonly device: string;
  readonly deviceClass: string;
  readonly iotEdge: boolean;
  readonly tagged: boolean;
  readonly namesCluster: boolean;
  /** Whether the fleet view has its twin: otherwise it is not known what it runs. */
  readonly isKnown: boolean;
  readonly pointer: PointerRow | null;
  readonly otherDeployments: readonly string[];
};

export type Settings = {
  /** Id of this cluster: two may share a hub. */
  readonly clusterId: string;
  /** How often a rollout under way is looked at. */
  readonly analysisInterval: Millis;
  /** How long a download URL lives. */
  readonly sasLifetime: Millis;
  /** Twins that one pass of a rollback reads and patches itself, without waiting for the hub. */
  readonly fastPathLimit: number;
  /** Configurations that the hub allows, of all owners. */
  readonly hubConfigurationLimit: number;
  /** managed: we keep the one deployment with the system modules · external: it is managed elsewhere. */
  readonly baseDeployment: "managed" | "external";
  /** For how long a deployment must be missing before its configurations are taken off the hub. */
  readonly ownerlessAfter: Millis;
};

export type RolloutSeen = {
  readonly now: Instant;
  readonly deployment: InferenceDeployment;
  /** By name, as far as they exist: the release in spec, the candidate, and stable. */
  readonly releases: Dictionary<ModelRelease>;
  readonly members: readonly Member[];
  readonly contested: readonly Contested[];
  readonly staleDevices: readonly StaleDevice[];
  readonly hub: {
    readonly reachable: boolean;
    readonly canReadTwins: boolean;
    readonly since: Instant;
    readonly twinsSince: Instant;
    /** Duration of a sweep: the greatest age of what is known of devices that are not read one by one. */
    readonly sweepTime: Millis;
    /** Whether the whole fleet has been read since the start, so that every device that is out there is known. */
    readonly isSwept: boolean;
    readonly message: string;
    readonly kind?: Fault["kind"];
  };
  /** All configurations of the hub; `null`: not listed yet. */
  readonly configurations: readonly Configuration[] | null;
  /** Those of them that are this deployment's; none before they are listed. */
  readonly own: readonly Configuration[];
  /** Target conditions that the hub was asked about: `null` where it accepted them, otherwise its message. */
  readonly tested: Dictionary<string | null>;
  /** Devices whose twin was read after the rollback in flight began, and was not (or no longer) on the candidate. */
  readonly cleared: ReadonlySet<string>;
  /** Other InferenceDeployments of the cluster that are not being deleted. */
  readonly others: number;
  /** What the namespace may use. */
  readonly grant: Grant;
  /** The other deployments of the namespace, those that are being deleted too, by `<namespace>.<name>`. */
  readonly predecessors: ReadonlyMap<string, Predecessor>;
  /** Since when none of our configurations targets any device, while the deployment is taken away; `null`: they do. */
  readonly emptiedAt: Instant | null;
  /** Since when configurations have been seen whose deployment does not exist; `null`: the deployment exists. */
  readonly ownerlessSince: Instant | null;
  readonly settings: Settings;
};
