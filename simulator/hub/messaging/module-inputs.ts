import type { TwinKey } from "../twins/twin.ts";
import type { PropertyBag } from "./message.ts";

/** A message that edgeHub's routes would bring to an input of a module. */
export type InputMessage = {
  readonly input: string;
  readonly body: Buffer;
  readonly properties: PropertyBag;
};

export type ModuleInputs = {
  /** Registers the receiver of a module's inputs; the returned function unregisters it. */
  readonly attach: (key: TwinKey, deliver: (message: InputMessage) => void) => () => void;
  /** Whether there is a receiver: nothing is stored for later. */
  readonly send: (key: TwinKey, message: InputMessage) => boolean;
};

/** In place of edgeHub's routes: a message goes to the module that it is addressed to. */
export function createModuleInputs(): ModuleInputs {
  const receivers = new Map<TwinKey, { readonly deliver: (message: InputMessage) => void }>();
  return {
    attach(key, deliver) {
      const receiver = { deliver };
      receivers.set(key, receiver);
      return () => {
        if (receivers.get(key) === receiver) receivers.delete(key);
      };
    },
    send(key, message) {
      const receiver = receivers.get(key);
      receiver?.deliver(message);
      return receiver !== undefined;
    },
  };
}
