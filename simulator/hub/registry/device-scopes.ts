import { type Answer, ok, refuse } from "../errors.ts";
import type { Identity, IdentityDraft } from "./identity.ts";

const SCOPE = "ms-azure-iot-edge://";
const SCOPE_END = /-[0-9]{18}$/;

/** Scopes of the edge devices of a hub: what children may name as their parent. */
export type DeviceScopes = {
  readonly note: (before: Identity | null, after: Identity | null) => void;
  /** The draft with its scopes resolved, or why they cannot be. */
  readonly resolve: (
    deviceId: string,
    draft: IdentityDraft,
    before: Identity | null,
  ) => Answer<IdentityDraft>;
};

/** `ticks` makes the number that a new scope ends with. */
export function createDeviceScopes(ticks: () => string): DeviceScopes {
  const scopes = new Set<string>();

  /**
   * The hub makes the scope of an edge device, once; a leaf takes its parent's, and a child that is an edge device
   * itself names its parent in parentScopes.
   */
  function resolve(deviceId: string, draft: IdentityDraft, before: Identity | null): Answer<IdentityDraft> {
    const parents = draft.parentScopes.filter((scope) => scope !== "");
    if (parents.length > 1) return refuse("InvalidDeviceScope", "a device has one parent at most");
    const unknown = parents.find((scope) => !isScopeOfAnother(scope, before));
    if (unknown !== undefined)
      return refuse("InvalidDeviceScope", `${unknown} is not the scope of another edge device of this hub`);
    const given = draft.deviceScope === "" ? null : draft.deviceScope;
    if (draft.iotEdge) return ownScopeOf(deviceId, { ...draft, parentScopes: parents }, given, before);
    if (given === null || (given === before?.deviceScope && before.iotEdge))
      return ok({ ...draft, deviceScope: null, parentScopes: parents });
    if (!isScopeOfAnother(given, before))
      return refuse("InvalidDeviceScope", `${given} is not the scope of an edge device of this hub`);
    return ok({ ...draft, deviceScope: given, parentScopes: [given] });
  }

  function isScopeOfAnother(scope: string, self: Identity | null): boolean {
    return scopes.has(scope) && !(self?.iotEdge === true && self.deviceScope === scope);
  }

  function ownScopeOf(
    deviceId: string,
    draft: IdentityDraft,
    given: string | null,
    before: Identity | null,
  ): Answer<IdentityDraft> {
    const own = before?.iotEdge === true ? before.deviceScope : null;
    if (own !== null && given !== null && given !== own)
      return refuse("InvalidDeviceScope", `the scope of ${deviceId} is ${own} and cannot be changed`);
    // An identity that was exported keeps its scope: the children that come after it name it.
    const brought = given?.startsWith(`${SCOPE}${deviceId}-`) && SCOPE_END.test(given) ? given : null;
    return ok({ ...draft, deviceScope: own ?? brought ?? `${SCOPE}${deviceId}-${ticks()}` });
  }

  return {
    resolve,
    note: (before, after) => {
      if (before?.iotEdge === true && before.deviceScope !== null) scopes.delete(before.deviceScope);
      if (after?.iotEdge === true && after.deviceScope !== null) scopes.add(after.deviceScope);
    },
  };
}
