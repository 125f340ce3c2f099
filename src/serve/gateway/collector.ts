import { ServingError } from "../../protocol/errors.ts";
import type { Placement } from "../fleet/fleet.ts";
import type { Generation, GenerationObserver } from "./generation.ts";

/** Waits for a whole generation, for an answer that is not streamed. Its text is bounded by the context length. */
export class Collector implements GenerationObserver {
  /** Resolves when every choice has ended; rejects with the error that ended them, or when the client left. */
  readonly done: Promise<void>;
  placement: Placement | null = null;
  #resolve: () => void = () => {};
  #reject: (error: ServingError) => void = () => {};

  constructor() {
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // When the fleet refuses at once nobody waits, and the connection may still close first.
    this.done.catch(() => {});
  }

  /** @throws ServingError when the fleet does not take the generation */
  start(generation: Generation): void {
    generation.start();
  }

  close(): void {
    this.#reject(new ServingError("client_closed_request", "The client closed the connection."));
  }

  onPlaced(placement: Placement): void {
    this.placement = placement;
  }

  onOutput(): void {}

  onDone(): void {
    this.#resolve();
  }

  onFailed(error: ServingError): void {
    this.#reject(error);
  }
}
