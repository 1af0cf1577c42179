import type { ModelPointer } from "../../api/device-contract.ts";
import type { InferenceDeployment } from "../../api/inference-deployment.ts";
import type { BlobReference } from "../../api/model-release.ts";
import type { Problem } from "../../api/reasons.ts";
import type { Instant } from "../../base/time.ts";
import type { ConfigurationKind, Lane } from "../../hub/hub.ts";
import type { Track } from "../seen.ts";
import type { PointerDraft } from "./content.ts";

// What acting can do, one write each.

export type Action =
  | {
      readonly kind: "create";
      readonly id: string;
      readonly configurationKind: ConfigurationKind;
      readonly track: Track;
      readonly labels: Readonly<Record<string, string>>;
      readonly condition: string;
      readonly module: InferenceDeployment["spec"]["module"];
      readonly pointer: PointerDraft;
      readonly blob: BlobReference;
      /** State of the blob that was verified; `null`: the verdict does not say. */
      readonly etag: string | null;
      readonly expiresAt: Instant;
      /** The new one must win over these while they stand side by side. */
      readonly above: readonly string[];
    }
  | { readonly kind: "createBase" }
  | {
      readonly kind: "retarget";
      readonly id: string;
      readonly condition: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly lane: Lane;
    }
  | { readonly kind: "remove"; readonly id: string; readonly lane: Lane }
  /** Reads the twin; where its pointer is this deployment's (and of `from`, unless that is `null`), makes it `to`. */
  | {
      readonly kind: "restore";
      readonly device: string;
      readonly iotEdge: boolean;
      readonly from: string | null;
      readonly to: ModelPointer | null;
      readonly lane: Lane;
    }
  /** Reads the twin; where it has no pointer at all, gives it `to`: the hub took away what is to stay. */
  | {
      readonly kind: "retain";
      readonly device: string;
      readonly iotEdge: boolean;
      readonly to: ModelPointer;
      readonly lane: Lane;
    };

export type Actions = { readonly actions: readonly Action[]; readonly problem: Problem | null };

export type Create = Extract<Action, { readonly kind: "create" }>;

export type Retarget = Extract<Action, { readonly kind: "retarget" }>;

export type Remove = Extract<Action, { readonly kind: "remove" }>;

export type Restore = Extract<Action, { readonly kind: "restore" }>;
